"""Make `src/pgshapes/where/pg_catalog.tsv` from a running Postgres: `make pg-catalog`.

The file is what decides how a clause is typed: the rows of `pg_type`, `pg_operator`, `pg_proc` and `pg_cast`
that every server from 14 on has. `where/pg_catalog.py` reads it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import psycopg

from pgshapes.embedded.server import EmbeddedPostgres

VERSION: Final = 18
TARGET: Final = Path(__file__).resolve().parents[1] / "src/pgshapes/where/pg_catalog.tsv"

FUNCTIONS: Final = (
    *("abs", "array_append", "array_cat", "array_length", "array_ndims", "array_prepend", "btrim"),
    *("cardinality", "char_length", "character_length", "concat", "justify_days", "justify_hours"),
    *("justify_interval", "length", "like", "like_escape", "lower", "ltrim", "notlike", "position", "rtrim"),
    *("starts_with", "strpos", "timezone", "upper"),
)
"""A clause may call these and no others: none depends on clock, session or chance. All overloads are taken,
so that one which is not supported is chosen, and refused, where Postgres would choose it.
"""

NEWER_FUNCTIONS: Final = {("timezone", "1114"), ("timezone", "1184"), ("timezone", "1266")}
"""`AT LOCAL`, since Postgres 17."""
NEWER_CASTS: Final = {(17, size) for size in (20, 21, 23)} | {(size, 17) for size in (20, 21, 23)}
"""bytea to and from integers, since Postgres 18."""

_TYPES: Final = """
SELECT 'T', oid::int8, typname, typtype::text, typcategory::text, typispreferred::int, typarray::int8,
       (typcollation <> 0)::int
FROM pg_type
WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'p', 'r', 'm')
  AND typsubscript <> 'array_subscript_handler'::regproc
  AND typname NOT LIKE 'pg\\_%' AND typname NOT LIKE '%\\_handler'
"""
"""Array types follow from their elements' `typarray`."""

_OPERATORS: Final = """
SELECT 'O', oprname, oprleft::int8, oprright::int8, oprresult::int8, proisstrict::int
FROM pg_operator JOIN pg_proc ON pg_proc.oid = oprcode
WHERE oprnamespace = 'pg_catalog'::regnamespace
"""

_FUNCTIONS: Final = """
SELECT 'F', proname, proargtypes::text, prorettype::int8, provariadic::int8, proisstrict::int
FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (%s)
"""

_CASTS: Final = (
    "SELECT 'C', castsource::int8, casttarget::int8, castcontext::text, castmethod::text FROM pg_cast"
)


def catalog_lines(connection: psycopg.Connection) -> Iterator[str]:
    """The lines of the file, without line ends."""
    version = connection.info.server_version // 10_000
    yield f"# Made from Postgres {version} by tools/update_pg_catalog.py."
    functions = connection.execute(_FUNCTIONS, [list(FUNCTIONS)]).fetchall()
    casts = connection.execute(_CASTS).fetchall()
    yield "# T oid name typtype typcategory typispreferred typarray is_collatable"
    yield from _lines(connection.execute(_TYPES).fetchall())
    yield "# O oprname oprleft oprright oprresult proisstrict"
    yield from _lines(connection.execute(_OPERATORS).fetchall())
    yield "# F proname proargtypes prorettype provariadic proisstrict"
    yield from _lines(row for row in functions if row[1:3] not in NEWER_FUNCTIONS)
    yield "# C castsource casttarget castcontext castmethod"
    yield from _lines(row for row in casts if row[1:3] not in NEWER_CASTS)


def _lines(rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    for row in sorted(rows, key=_order):
        yield "\t".join(map(str, row))


def _order(row: tuple[object, ...]) -> tuple[tuple[int, str], ...]:
    """Numbers by value, texts by code point."""
    return tuple((value, "") if isinstance(value, int) else (0, str(value)) for value in row)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server to ask instead of an embedded one")
    chosen = parser.parse_args()
    if chosen.url:
        _write(chosen.url)
        return
    with EmbeddedPostgres(version=VERSION) as server:
        _write(server.url())


def _write(url: str) -> None:
    with psycopg.connect(url) as connection:
        lines = list(catalog_lines(connection))
    TARGET.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    print(f"{len(lines)} lines in {TARGET}")


if __name__ == "__main__":
    main()
