"""Arrays: their text form, and their values as dimensions and flat items (manual: Arrays)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pgshapes.where.types.operation import BadLiteral

MAX_DIMENSIONS: Final = 6
_QUOTED: Final = frozenset('"\\{}, \t\n\v\f\r')
_SPACE: Final = " \t\n\v\f\r"


class Array(NamedTuple):
    """Sizes and lower bounds per dimension, and the items, last dimension fastest; None is NULL."""

    sizes: tuple[int, ...]
    bounds: tuple[int, ...]
    items: tuple[Any, ...]


EMPTY: Final = Array((), (), ())


def vector(items: tuple[Any, ...]) -> Array:
    """A one-dimensional array from 1 on."""
    return Array((len(items),), (1,), items) if items else EMPTY


def decode_array(text: str, decode: Callable[[str], Any]) -> Array:
    """An array as the server writes it; `decode` makes an item of its text."""
    if text.startswith("{") and '"' not in text and text.find("{", 1) < 0 and text != "{}":
        items = text[1:-1].split(",")
        return vector(tuple(None if item == "NULL" else decode(item) for item in items))
    return read_array(text, decode)


def read_array(text: str, decode: Callable[[str], Any]) -> Array:
    """An array from a user's text. Raises BadLiteral."""
    bounds, body = _split_bounds(text.strip(_SPACE))
    if not bounds and body.startswith("{") and body.endswith("}") and not body[1:-1].strip(_SPACE):
        return EMPTY
    reader = _Reader(body, decode)
    sizes = reader.read_level(0)
    reader.expect_end()
    if not reader.items:
        if bounds:
            raise BadLiteral
        return EMPTY
    if bounds and tuple(high - low + 1 for low, high in bounds) != sizes:
        raise BadLiteral
    return Array(sizes, tuple(low for low, _ in bounds) or (1,) * len(sizes), tuple(reader.items))


def write_array(array: Array, write: Callable[[Any], str]) -> str:
    """As `array_out` writes it; `write` makes an item's text."""
    if not array.sizes:
        return "{}"
    texts = ["NULL" if item is None else _quote(write(item)) for item in array.items]
    for size in reversed(array.sizes):
        texts = ["{" + ",".join(texts[at : at + size]) + "}" for at in range(0, len(texts), size)]
    if all(bound == 1 for bound in array.bounds):
        return texts[0]
    shown = (f"[{low}:{low + size - 1}]" for low, size in zip(array.bounds, array.sizes, strict=True))
    return "".join(shown) + "=" + texts[0]


def _quote(text: str) -> str:
    if text and text.upper() != "NULL" and not _QUOTED.intersection(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _split_bounds(text: str) -> tuple[list[tuple[int, int]], str]:
    """`[1:2][0:3]={…}` as bounds and body."""
    if not text.startswith("["):
        return [], text
    head, _, body = text.partition("=")
    bounds = []
    for part in head.removeprefix("[").removesuffix("]").split("]["):
        low, colon, high = part.partition(":")
        try:
            bounds.append((int(low), int(high)) if colon else (1, int(low)))
        except ValueError:
            raise BadLiteral from None
    return bounds, body.lstrip(_SPACE)


class _Reader:
    """Reads `{…}` left to right; every level must have the same size."""

    def __init__(self, text: str, decode: Callable[[str], Any]) -> None:
        self.text = text
        self.decode = decode
        self.at = 0
        self.items: list[Any] = []

    def read_level(self, depth: int) -> tuple[int, ...]:
        """Read one brace and what is in it; its sizes, outermost first."""
        if depth >= MAX_DIMENSIONS or self._next() != "{":
            raise BadLiteral
        self.at += 1
        shapes: list[tuple[int, ...]] = []
        while self._next() != "}":
            if shapes:
                self._take(",")
            shapes.append(self.read_level(depth + 1) if self._next() == "{" else self._item())
        self.at += 1
        if not shapes or any(shape != shapes[0] for shape in shapes):
            raise BadLiteral
        return (len(shapes), *shapes[0])

    def expect_end(self) -> None:
        """Only blanks may follow."""
        if self.text[self.at :].strip(_SPACE):
            raise BadLiteral

    def _next(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1
        if self.at >= len(self.text):
            raise BadLiteral
        return self.text[self.at]

    def _take(self, mark: str) -> None:
        if self._next() != mark:
            raise BadLiteral
        self.at += 1

    def _item(self) -> tuple[int, ...]:
        if self._next() == '"':
            self.items.append(self.decode(self._quoted()))
            return ()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in ',{}"\\':
            self.at += 1
        word = self.text[start : self.at].strip(_SPACE)
        if not word or self.at >= len(self.text) or self.text[self.at] in '"\\{':
            raise BadLiteral
        self.items.append(None if word.upper() == "NULL" else self.decode(word))
        return ()

    def _quoted(self) -> str:
        self.at += 1
        piece: list[str] = []
        while True:
            if self.at >= len(self.text):
                raise BadLiteral
            mark = self.text[self.at]
            if mark == "\\" and self.at + 1 < len(self.text):
                self.at += 1
                piece.append(self.text[self.at])
            elif mark == '"':
                self.at += 1
                return "".join(piece)
            else:
                piece.append(mark)
            self.at += 1
