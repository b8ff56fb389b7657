"""bool: its values, comparisons and casts (manual: Boolean Type)."""

from __future__ import annotations

from typing import Final

from pgshapes.where.types.operation import SPACE, BadLiteral, TypeIO, comparisons, inline, reads

_TRUE: Final = ("true", "yes", "on", "1")

_FALSE: Final = ("false", "no", "off", "0")


def decode_bool(text: str) -> bool:
    """A bool from the server's text."""
    return text == "t"


def read_bool(text: str) -> bool:
    """A bool from a client's text: a unique prefix of true, false, yes, no, on, off, or 1, 0. Raises
    BadLiteral.
    """
    word = text.strip(SPACE).lower()
    if word == "o" or not word:
        raise BadLiteral
    if any(full.startswith(word) for full in _TRUE):
        return True
    if any(full.startswith(word) for full in _FALSE):
        return False
    raise BadLiteral


def write_bool(value: bool) -> str:
    """The text that `boolout` writes."""
    return "t" if value else "f"


TYPES: Final = {"bool": TypeIO(decode_bool, read_bool, write_bool, is_canonical=True)}
OPERATIONS: Final = {
    **comparisons("bool", "bool", is_keyed=True),
    "bool::int4": inline("int({0})"),
    "int4::bool": inline("({0} != 0)"),
    "text::bool": reads(read_bool),
    **{f"bool::{name}": inline('("true" if {0} else "false")') for name in ("text", "varchar", "bpchar")},
}
