"""Casts from text, by the input functions of bool, integers, numeric and uuid.

Dates, times and floats are not here: their input functions take forms that depend on settings and on the C
library. From Postgres 16 on integers and numerics may have underscores and prefixes (`0x1F`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any, Final

from pgshapes.where.types import numbers, strings
from pgshapes.where.types.operation import BadLiteral, Operation, RowError, raises

_SPACE: Final = " \t\n\v\f\r"
_PREFIXED: Final = re.compile(
    r"([+-]?)0(?:[xX]((?:_?[0-9a-fA-F])+)|[oO]((?:_?[0-7])+)|[bB]((?:_?[01])+))", re.ASCII
)
_UNDERSCORE: Final = re.compile(r"(?<=[0-9])_(?=[0-9])", re.ASCII)
_SIZES: Final = {"int2": 2, "int4": 4, "int8": 8}


def _reading(read: Callable[[str], Any]) -> Operation:
    def cast(text: str) -> Any:
        try:
            return read(text)
        except BadLiteral as bad:
            raise RowError(bad.reason or "invalid input syntax") from None

    return raises(cast)


def _plain_digits(text: str) -> str:
    """A number with prefix and underscores as plain decimal digits; what is no such number stays as it is."""
    trimmed = text.strip(_SPACE)
    found = _PREFIXED.fullmatch(trimmed)
    if found is None:
        return _UNDERSCORE.sub("", trimmed)
    sign, *digits = found.groups()
    for base, part in zip((16, 8, 2), digits, strict=True):
        if part is not None:
            return f"{sign}{Decimal(int(part.replace('_', ''), base))}"
    return trimmed


def _integer(size: int) -> Callable[[str], int]:
    return lambda text: numbers.read_integer(_plain_digits(text), size)


def _numeric(text: str) -> Decimal | numbers.NotANumber:
    return numbers.read_numeric(_plain_digits(text))


def text_casts() -> Iterator[tuple[str, Operation]]:
    """Casts from text as Postgres 16 and newer have them."""
    yield "text_to_bool", _reading(strings.read_bool)
    yield "text_to_uuid", _reading(strings.read_uuid)
    yield "text_to_numeric", _reading(_numeric)
    for name, size in _SIZES.items():
        yield f"text_to_{name}", _reading(_integer(size))


def text_casts_before_16() -> Iterator[tuple[str, Operation]]:
    """Those that differ before Postgres 16."""
    yield "text_to_numeric", _reading(numbers.read_numeric)
    for name, size in _SIZES.items():
        yield f"text_to_{name}", _reading(partial(numbers.read_integer, size=size))
