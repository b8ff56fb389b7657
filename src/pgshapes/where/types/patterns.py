"""LIKE and ILIKE (manual: Pattern Matching).

A pattern is cut at its `%` into pieces of fixed length, which are looked for from left to right: no pattern
can make that slow. ILIKE is LIKE after folding both sides with the collation's lower().
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from pgshapes.where.types.malformed_pattern import refute
from pgshapes.where.types.operation import RowError

_ANY: Final = "%"
_ONE: Final = "_"


class Pattern(NamedTuple):
    """A pattern as a test. `kind` is exact, prefix, suffix, contains, regex or malformed."""

    kind: str
    text: str
    test: Callable[[str], object] | None


def split_pattern(pattern: str) -> list[list[str]] | None:
    """Pieces between `%`; a piece is a list of characters, "" standing for any one. None for a pattern that
    ends with its escape character.
    """
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
                return None
            pieces[-1].append(escaped)
        else:
            pieces[-1].append(mark)
    return pieces


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> Pattern:
    """The test that a pattern means."""
    pieces = split_pattern(pattern)
    if pieces is None:
        return Pattern("malformed", pattern, None)
    if all("" not in piece for piece in pieces):
        plain = _without_wildcards(["".join(piece) for piece in pieces])
        if plain is not None:
            return plain
    return Pattern("regex", "", re.compile(_regex(pieces), re.DOTALL).fullmatch)


def _without_wildcards(pieces: list[str]) -> Pattern | None:
    """A test by a method of str, if one does."""
    first, *middle = pieces
    if not middle:
        return Pattern("exact", first, None)
    last = middle.pop()
    given = [piece for piece in middle if piece]
    if not given and not (first and last):
        return Pattern("suffix", last, None) if last else Pattern("prefix", first, None)
    if not first and not last and len(given) == 1:
        return Pattern("contains", given[0], None)
    return None


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
    if kind == "malformed":
        return refute(text, pattern)
    return text.startswith(wanted) if kind == "prefix" else text.endswith(wanted)


def not_like(text: str, pattern: str) -> bool:
    """`text NOT LIKE pattern`. Raises RowError."""
    return not like(text, pattern)


def escaped_pattern(pattern: str, escape: str) -> str:
    """`pattern ESCAPE escape` as a pattern with the usual escape character (`like_escape`). Raises
    RowError.
    """
    if escape == "\\":
        return pattern
    if len(escape) > 1:
        raise RowError("invalid escape string")
    made: list[str] = []
    is_escaped = False
    for mark in pattern:
        if mark == escape and not is_escaped:
            made.append("\\")
            is_escaped = True
            continue
        made.append("\\\\" if mark == "\\" and not is_escaped else mark)
        is_escaped = False
    return "".join(made)
