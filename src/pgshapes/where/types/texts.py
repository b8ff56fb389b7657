"""text, varchar, char, name and enums: their values, functions, comparisons and casts (manual: Character
Types; String Functions and Operators). LIKE is in `patterns.py`, lower() and upper() in `case_folding.py`.

Values are str; blank-padded char loses its blanks when it is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pgshapes.where.types.operation import Modifier, Operation, TypeIO, calls, comparisons, inline

_MAX_CHARACTERS: Final = 10_485_760


def read_text(text: str) -> str:
    """Text is itself."""
    return text


def read_name(text: str) -> str:
    """A name, cut to 63 bytes as the server does."""
    return text.encode()[:63].decode(errors="ignore")


def _is_length(modifier: tuple[int, ...]) -> bool:
    return len(modifier) == 1 and 1 <= modifier[0] <= _MAX_CHARACTERS


def _cut(modifier: tuple[int, ...]) -> Callable[[str], str]:
    (size,) = modifier
    return lambda text: text[:size]


def _padded(modifier: tuple[int, ...]) -> Callable[[str], str]:
    (size,) = modifier
    return lambda text: text[:size].ljust(size)


def concat(*parts: str | None) -> str:
    """All parts that are not NULL, joined."""
    return "".join(part for part in parts if part is not None)


def _trim(method: str) -> Operation:
    """No characters to trim trim nothing, where Python would trim blanks."""
    return inline(f"({{0}}.{method}({{1}}) if {{1}} else {{0}})", collation="equal")


_LENGTH: Final = inline("len({0})")
_LENGTH_WITHOUT_BLANKS: Final = inline('len({0}.rstrip(" "))')
_POSITION: Final = inline("({0}.find({1}) + 1)", collation="equal")
_TEXT: Final = TypeIO(read_text, read_text, read_text, is_canonical=True)

TYPES: Final = {
    "text": _TEXT,
    "varchar": _TEXT._replace(modifier=Modifier(_is_length, _cut)),
    "bpchar": _TEXT._replace(is_canonical=False, modifier=Modifier(_is_length, _padded)),
    "name": TypeIO(read_text, read_name, read_text, is_canonical=True),
}
OPERATIONS: Final = {
    **comparisons("text", "text", is_keyed=True, is_collated=True),
    **comparisons("name", "name", is_keyed=True, is_collated=True),
    **comparisons("name", "text", is_keyed=True, is_collated=True),
    **comparisons("text", "name", is_keyed=True, is_collated=True),
    **comparisons("bpchar", "bpchar", operands=('{0}.rstrip(" ")', '{1}.rstrip(" ")'), is_collated=True),
    "anyenum = anyenum": inline("{0} == {1}", equality="eq"),
    "anyenum <> anyenum": inline("{0} != {1}", equality="ne"),
    "text || text": inline("({0} + {1})"),
    "lower(text)": calls(str.lower, collation="case"),
    "upper(text)": calls(str.upper, collation="case"),
    "length(text)": _LENGTH,
    "char_length(text)": _LENGTH,
    "character_length(text)": _LENGTH,
    "length(bpchar)": _LENGTH_WITHOUT_BLANKS,
    "char_length(bpchar)": _LENGTH_WITHOUT_BLANKS,
    "character_length(bpchar)": _LENGTH_WITHOUT_BLANKS,
    "btrim(text)": inline('{0}.strip(" ")'),
    "ltrim(text)": inline('{0}.lstrip(" ")'),
    "rtrim(text)": inline('{0}.rstrip(" ")'),
    "btrim(text, text)": _trim("strip"),
    "ltrim(text, text)": _trim("lstrip"),
    "rtrim(text, text)": _trim("rstrip"),
    "strpos(text, text)": _POSITION,
    "position(text, text)": _POSITION,
    "starts_with(text, text)": inline("{0}.startswith({1})", collation="equal"),
    "concat(any)": calls(concat),
    "bpchar::text": inline('{0}.rstrip(" ")'),
    "bpchar::varchar": inline('{0}.rstrip(" ")'),
    "name::text": inline("{0}"),
    "name::varchar": inline("{0}"),
}
