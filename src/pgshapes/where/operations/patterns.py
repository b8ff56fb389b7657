"""LIKE and ILIKE (manual: Pattern Matching).

A pattern is cut at its `%` into pieces of fixed length, which are looked for from left to right: no pattern
can make that slow. ILIKE is LIKE after folding both sides with the collation's lower().
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from pgshapes.where.values.raising import RowError

_ANY: Final = "%"
_ONE: Final = "_"


class Pattern(NamedTuple):
    """A constant pattern as a test. `kind` is exact, prefix, suffix, contains or regex."""

    kind: str
    text: str
    test: Callable[[str], object] | None


def split_pattern(pattern: str) -> list[list[str]]:
    """Pieces between `%`; a piece is a list of characters, "" standing for any one. Raises RowError."""
    pieces: list[list[str]] = [[]]
    marks = iter(pattern)
    for mark in marks:
        if mark == _ANY:
            pieces.append([])
        elif mark == _ONE:
            pieces[-1].append("")
        elif mark == "\\":
            escaped = next(marks, None)
            if escaped is None:
                raise RowError("LIKE pattern must not end with escape character")
            pieces[-1].append(escaped)
        else:
            pieces[-1].append(mark)
    return pieces


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> Pattern:
    """The test that a pattern means. Raises RowError for a pattern that ends with its escape character."""
    pieces = split_pattern(pattern)
    if all("" not in piece for piece in pieces):
        first, *middle = ["".join(piece) for piece in pieces]
        if not middle:
            return Pattern("exact", first, None)
        last = middle.pop()
        if not any(middle) and not (first and last):
            kind, text = ("prefix", first) if not last else ("suffix", last)
            return Pattern(kind, text, None)
        if not first and not last and sum(map(bool, middle)) == 1:
            return Pattern("contains", next(filter(None, middle)), None)
    return Pattern("regex", "", re.compile(_regex(pieces), re.DOTALL).fullmatch)


def _regex(pieces: list[list[str]]) -> str:
    """Each piece but the last is taken where it first occurs (atomic groups: no backtracking over it)."""
    sources = ["".join(re.escape(mark) if mark else "." for mark in piece) for piece in pieces]
    if len(sources) == 1:
        return sources[0]
    first, *middle = sources
    last = middle.pop()
    return first + "".join(f"(?>.*?{source})" for source in middle if source) + ".*" + last


def like(text: str, pattern: str) -> bool:
    """`text LIKE pattern`. Raises RowError."""
    kind, wanted, test = compile_pattern(pattern)
    if test is not None:
        return test(text) is not None
    if kind == "exact":
        return text == wanted
    if kind == "contains":
        return wanted in text
    return text.startswith(wanted) if kind == "prefix" else text.endswith(wanted)


def not_like(text: str, pattern: str) -> bool:
    """`text NOT LIKE pattern`. Raises RowError."""
    return not like(text, pattern)
