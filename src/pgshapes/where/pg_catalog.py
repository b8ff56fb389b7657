"""The part of Postgres's `pg_catalog` that decides which operator, function or cast a clause means.

It is not read from the user's server: it has what every server from 14 on has, so that overloads are
resolved here as there. The user's server confirms the result when a shape is created (`clause.py`). Read
once from `pg_catalog.tsv`, which `make pg-catalog` makes; immutable.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Final, NamedTuple


class PgType(NamedTuple):
    """A row of `pg_type` (manual: catalog pg_type)."""

    oid: int
    name: str
    kind: str
    """`typtype`: b base, e enum, p pseudo, r range, m multirange."""
    category: str
    is_preferred: bool
    array_oid: int
    is_collatable: bool
    element: PgType | None = None
    """The type of the elements of an array type, None for others."""

    @property
    def is_array(self) -> bool:
        """Whether this is an array type."""
        return self.element is not None


class Operator(NamedTuple):
    """A row of `pg_operator`; `left` is 0 for a prefix operator."""

    name: str
    left: int
    right: int
    result: int
    is_strict: bool
    signature: str
    """`text || text`, or `- int4` of a prefix operator."""

    @property
    def arguments(self) -> tuple[int, ...]:
        """Operand types, left to right."""
        return (self.left, self.right) if self.left else (self.right,)


class Function(NamedTuple):
    """A row of `pg_proc`."""

    name: str
    arguments: tuple[int, ...]
    result: int
    variadic: int
    is_strict: bool
    signature: str
    """`lower(text)`."""


class CastPath(NamedTuple):
    """A row of `pg_cast`: context e explicit, a assignment, i implicit; method f function, b binary, i
    input/output.
    """

    context: str
    method: str


BOOL: Final = 16
NAME: Final = 19
INT8: Final = 20
INT4: Final = 23
TEXT: Final = 25
JSON: Final = 114
FLOAT4: Final = 700
FLOAT8: Final = 701
UNKNOWN: Final = 705
BPCHAR: Final = 1042
TIME: Final = 1083
NUMERIC: Final = 1700
ANY: Final = 2276
ANYARRAY: Final = 2277
ANYELEMENT: Final = 2283
ANYNONARRAY: Final = 2776
UUID: Final = 2950
ANYENUM: Final = 3500
JSONB: Final = 3802
ANYCOMPATIBLE: Final = 5077
ANYCOMPATIBLEARRAY: Final = 5078
ANYCOMPATIBLENONARRAY: Final = 5079

TYPES: Final[dict[int, PgType]] = {}
TYPES_BY_NAME: Final[dict[str, PgType]] = {}
OPERATORS: Final[dict[str, list[Operator]]] = {}
FUNCTIONS: Final[dict[str, list[Function]]] = {}
CASTS: Final[dict[tuple[int, int], CastPath]] = {}
SIGNATURES: Final[set[str]] = set()
"""The signatures of all operators and functions, and of the casts that call a function or read text:
`int4::numeric`.
"""


def _add_type(
    oid: str, name: str, kind: str, category: str, preferred: str, array: str, collatable: str
) -> None:
    element = PgType(int(oid), name, kind, category, preferred == "1", int(array), collatable == "1")
    TYPES[element.oid] = TYPES_BY_NAME[name] = element
    if element.array_oid:
        of = PgType(element.array_oid, "_" + name, "b", "A", False, 0, element.is_collatable, element=element)
        TYPES[of.oid] = TYPES_BY_NAME[of.name] = of


def _add_operator(name: str, left: str, right: str, result: str, strict: str) -> None:
    signature = " ".join([*([] if left == "0" else [shown_type(int(left))]), name, shown_type(int(right))])
    found = Operator(name, int(left), int(right), int(result), strict == "1", signature)
    OPERATORS.setdefault(name, []).append(found)
    SIGNATURES.add(signature)


def _add_function(name: str, arguments: str, result: str, variadic: str, strict: str) -> None:
    types = tuple(map(int, arguments.split()))
    signature = f"{name}({', '.join(map(shown_type, types))})"
    found = Function(name, types, int(result), int(variadic), strict == "1", signature)
    FUNCTIONS.setdefault(name, []).append(found)
    SIGNATURES.add(signature)


def _add_cast(source: str, target: str, context: str, method: str) -> None:
    CASTS[int(source), int(target)] = CastPath(context, method)


def shown_type(oid: int) -> str:
    """A type's name in signatures: `int4`, `int4[]`; the oid of a type that is not in `TYPES`."""
    found = TYPES.get(oid)
    if found is None:
        return str(oid)
    return found.name if found.element is None else f"{found.element.name}[]"


def enum_type(oid: int, name: str) -> PgType:
    """The type of a user's enum. The oid of its array type is not known."""
    return PgType(oid, name, "e", "E", False, 0, False)


def array_of(element: PgType) -> PgType:
    """The array type of an element type."""
    if element.array_oid:
        return TYPES[element.array_oid]
    return PgType(-element.oid, "_" + element.name, "b", "A", False, 0, False, element=element)


def _add_cast_signatures() -> None:
    """Casts that are functions, and casts of text by an input function, which `pg_cast` does not list."""
    for (source, target), path in CASTS.items():
        if path.method == "f":
            SIGNATURES.add(f"{shown_type(source)}::{shown_type(target)}")
    for target in TYPES:
        if (TEXT, target) not in CASTS:
            SIGNATURES.add(f"text::{shown_type(target)}")


def _load() -> None:
    text = files(__package__).joinpath("pg_catalog.tsv").read_text(encoding="ascii")
    for line in text.splitlines():
        kind, *fields = line.split("\t")
        if kind in _ADD:
            _ADD[kind](*fields)
    _add_cast_signatures()


_ADD: Final[dict[str, Callable[..., None]]] = {
    "T": _add_type,
    "O": _add_operator,
    "F": _add_function,
    "C": _add_cast,
}
_load()
