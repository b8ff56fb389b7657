"""Patterns that end with their escape character: never a match, but an error only if Postgres gets that
far.

A transcription of `MatchText()` of `like_match.c`, which reads from left to right and may find a
difference, or the end of the text, before it meets the pattern's end.
"""

from __future__ import annotations

from typing import Final

from pgshapes.where.types.operation import RowError

_FALSE: Final = 0
_ABORT: Final = -1
_MAX_DEPTH: Final = 100
"""Pieces between `%`; each is a level of recursion."""


def refute(text: str, pattern: str) -> bool:
    """False, for a text that differs before the pattern's end is met. Raises RowError for all others."""
    if pattern.count("%") > _MAX_DEPTH:
        raise RowError("LIKE pattern must not end with escape character")
    _match(text, 0, pattern, 0)
    return False


def _match(text: str, at: int, pattern: str, place: int) -> int:
    while at < len(text) and place < len(pattern):
        mark = pattern[place]
        if mark == "%":
            return _scan(text, at, pattern, place + 1)
        if mark == "\\":
            place += 1
            if place == len(pattern):
                raise RowError("LIKE pattern must not end with escape character")
        if (mark != "_") and pattern[place] != text[at]:
            return _FALSE
        at, place = at + 1, place + 1
    return _FALSE if at < len(text) else _ABORT


def _scan(text: str, at: int, pattern: str, place: int) -> int:
    """After a `%`: try the rest of the pattern at every place of the text."""
    while pattern[place] in "%_":
        if pattern[place] == "_":
            if at >= len(text):
                return _ABORT
            at += 1
        place += 1
    if pattern[place] == "\\" and place + 1 == len(pattern):
        raise RowError("LIKE pattern must not end with escape character")
    first = pattern[place + 1] if pattern[place] == "\\" else pattern[place]
    for start in range(at, len(text)):
        if text[start] == first and _match(text, start, pattern, place) == _ABORT:
            return _ABORT
    return _ABORT
