"""Types of columns, values for them, and expressions that make one type of another."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.oracle.ddl.catalog import Catalog, Column, UserType, quoted

PLAIN_TYPES = (
    "integer",
    "integer",
    "bigint",
    "text",
    "text",
    "character varying(40)",
    "numeric",
    "numeric(10,2)",
    "boolean",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "jsonb",
    "uuid",
    "double precision",
    "interval",
    "bytea",
    "integer[]",
    "text[]",
)
WIDENING = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric", "double precision", "numeric(10,2)"),
    "bigint": ("numeric", "integer"),
    "numeric": ("numeric(10,2)", "numeric(12,3)"),
    "text": ("character varying(60)", "character varying"),
    "character varying": ("text",),
    "date": ("timestamp without time zone", "timestamp with time zone"),
    "timestamp without time zone": ("timestamp with time zone", "date"),
    "timestamp with time zone": ("timestamp without time zone",),
}
"""Types to which a column may be altered without USING."""

_WORDS = ("ok", "sad", "x", "a/b", 'say "no"', "é", "", "back\\slash", "line\nbreak", '{"n":1}')


def any_type(pick: random.Random, catalog: Catalog) -> str:
    """A type for a new column, in SQL."""
    own = [f"public.{quoted(one.name)}" for one in catalog.types]
    own += [f"{name}[]" for name in own[:1]]
    return pick.choice(own if own and pick.random() < 0.35 else PLAIN_TYPES)


def value_for(pick: random.Random, column: Column, catalog: Catalog, number: int) -> str:
    """A literal for a column; different numbers give different values where the type has that many."""
    if column.base.startswith("public.") or column.kind in "ec":
        return _own_value(pick, column.base, catalog, number)
    return literal(_plain_value(pick, column.base, number))


def literal(text: str) -> str:
    """The text as a string constant."""
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in text else f"'{escaped}'"


def _plain_value(pick: random.Random, base: str, number: int) -> str:
    word = pick.choice(_WORDS)
    day = f"{2000 + number // 336 % 500}-{number // 28 % 12 + 1:02d}-{number % 28 + 1:02d}"
    match base:
        case "integer" | "bigint" | "numeric" | "double precision" | "smallint":
            return str(number)
        case "boolean":
            return "t" if number % 2 else "f"
        case "date" | "timestamp without time zone" | "timestamp with time zone":
            return day
        case "jsonb":
            return f'{{"n": {number}, "s": "x"}}'
        case "uuid":
            return f"00000000-0000-4000-8000-{number:012d}"
        case "interval":
            return f"{number} minutes"
        case "bytea":
            return f"\\x{number:08x}"
        case "integer[]":
            return f"{{{number},NULL}}"
        case "text[]":
            return f'{{"{number}",x}}'
    return f"{word}{number}" if pick.random() < 0.8 else f"{number}"


def _own_value(pick: random.Random, base: str, catalog: Catalog, number: int) -> str:
    name = base.removeprefix("public.").strip('"')
    if name.endswith("[]"):
        return "'{}'"
    found = next((one for one in catalog.types if one.name == name), None)
    if found is None or not found.parts:
        return "NULL"
    if found.kind == "e":
        return literal(pick.choice(found.parts))
    return composite_value(found.parts, number)


def composite_value(attributes: Sequence[str], number: int) -> str:
    """A row; each attribute takes any number."""
    return "'(" + ",".join(str(number + place) for place in range(len(attributes))) + ")'"


def converted(column: Column, wanted: str, catalog: Catalog) -> str:
    """An expression of the type `wanted` that is made of the column's text."""
    text = f"({quoted(column.name)})::text"
    size = f"coalesce(length({text}), 0)"
    own = _named_type(wanted, catalog)
    if own is not None:
        return _own_converted(own, wanted, size)
    number, day = f"({size} + 1000)::{wanted}", f"(date '2024-01-01' + {size})::{wanted}"
    array = f"ARRAY[{size}]::{wanted}"
    made = {
        **dict.fromkeys(("integer", "bigint", "numeric", "double precision"), number),
        **dict.fromkeys(("date", "timestamp without time zone", "timestamp with time zone"), day),
        **dict.fromkeys(("integer[]", "text[]"), array),
        "boolean": f"{size} % 2 = 0",
        "jsonb": f"to_jsonb({text})",
        "uuid": f"md5({text})::uuid",
        "interval": f"make_interval(mins => {size})",
        "bytea": f"convert_to({text}, 'UTF8')",
        # A value that would be structure if the texts of JSON were put together by types that are no more.
        "text": f'left({text}, 30) || \'","role":"admin\'',
    }
    return made.get(wanted.partition("(")[0], f"left({text}, 30)::{wanted}")


def _own_converted(own: UserType, wanted: str, size: str) -> str:
    if wanted.endswith("[]") or own.kind == "c" or (not own.parts and own.kind == "e"):
        return f"NULL::{wanted}"
    return f"{literal(own.parts[0])}::{wanted}" if own.kind == "e" else f"({size} + 1000)::text::{wanted}"


def same_type(column: Column) -> str | None:
    """An expression of the column's own type with another value; None for a type without one."""
    name = quoted(column.name)
    match column.base:
        case "integer" | "bigint" | "numeric" | "double precision" | "smallint":
            return f"{name} + 1"
        case "boolean":
            return f"NOT {name}"
        case "date" | "timestamp without time zone" | "timestamp with time zone":
            return f"{name} + interval '1 day'" if column.base != "date" else f"{name} + 1"
        case "text" | "character varying":
            return f"left(upper({name}::text), 30)"
        case "interval":
            return f"{name} + interval '1 hour'"
        case "integer[]" | "text[]":
            return f"{name} || {name}"
    return None


def _named_type(wanted: str, catalog: Catalog) -> UserType | None:
    name = wanted.removeprefix("public.").removesuffix("[]").strip('"')
    return next((one for one in catalog.types if one.name == name), None)
