"""LIKE and ILIKE (manual: Pattern Matching).

A pattern is split at its `%` into pieces of fixed length, which are searched for from left to right without
backtracking, so no pattern is slow. ILIKE is LIKE after lower() of both operands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from pgshapes.where.types.operation import Operation, RowError, raises
from pgshapes.where.types.texts import lower_of

_DIFFERS: Final = 0
_TEXT_ENDS: Final = -1
_MAX_DEPTH: Final = 100
"""Pieces of a malformed pattern; each is a level of recursion."""


def refute(text: str, pattern: str) -> bool:
    """The match of a pattern that ends with its escape character: False if Postgres finds a difference, or
    the end of the text, before the end of the pattern. Raises RowError otherwise. Transcribes `MatchText()`
    of `like_match.c`.
    """
    if pattern.count("%") > _MAX_DEPTH:
        raise RowError("LIKE pattern must not end with escape character")
    _match_text(text, 0, pattern, 0)
    return False


def _match_text(text: str, at: int, pattern: str, place: int) -> int:
    while at < len(text) and place < len(pattern):
        character = pattern[place]
        if character == "%":
            return _scan(text, at, pattern, place + 1)
        if character == "\\":
            place += 1
            if place == len(pattern):
                raise RowError("LIKE pattern must not end with escape character")
        if (character != "_") and pattern[place] != text[at]:
            return _DIFFERS
        at, place = at + 1, place + 1
    return _DIFFERS if at < len(text) else _TEXT_ENDS


def _scan(text: str, at: int, pattern: str, place: int) -> int:
    """Match what follows a `%` at each position of the text."""
    while pattern[place] in "%_":
        if pattern[place] == "_":
            if at >= len(text):
                return _TEXT_ENDS
            at += 1
        place += 1
    if pattern[place] == "\\" and place + 1 == len(pattern):
        raise RowError("LIKE pattern must not end with escape character")
    first = pattern[place + 1] if pattern[place] == "\\" else pattern[place]
    for start in range(at, len(text)):
        if text[start] == first and _match_text(text, start, pattern, place) == _TEXT_ENDS:
            return _TEXT_ENDS
    return _TEXT_ENDS


_ANY: Final = "%"
_ONE: Final = "_"


class Pattern(NamedTuple):
    """A pattern as a test. `kind` is exact, prefix, suffix, contains, regex or malformed."""

    kind: str
    text: str
    test: Callable[[str], object] | None


def split_pattern(pattern: str) -> list[list[str]] | None:
    """The pieces between `%`, each a list of characters with "" for `_`. None for a pattern that ends with
    its escape character.
    """
    pieces: list[list[str]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == _ANY:
            pieces.append([])
        elif character == _ONE:
            pieces[-1].append("")
        elif character == "\\":
            escaped = next(characters, None)
            if escaped is None:
                return None
            pieces[-1].append(escaped)
        else:
            pieces[-1].append(character)
    return pieces


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> Pattern:
    """The test of a pattern."""
    pieces = split_pattern(pattern)
    if pieces is None:
        return Pattern("malformed", pattern, None)
    if all("" not in piece for piece in pieces):
        plain = _without_wildcards(["".join(piece) for piece in pieces])
        if plain is not None:
            return plain
    return Pattern("regex", "", re.compile(_regex(pieces), re.DOTALL).fullmatch)


def _without_wildcards(pieces: list[str]) -> Pattern | None:
    """A test by one method of str, None if that is not enough."""
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
    """The regular expression: each piece but the last matches where it first occurs (atomic groups prevent
    backtracking).
    """
    sources = ["".join(re.escape(character) if character else "." for character in piece) for piece in pieces]
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
    """`pattern ESCAPE escape` as a pattern with the default escape character (`like_escape`). Raises
    RowError.
    """
    if escape == "\\":
        return pattern
    if len(escape) > 1:
        raise RowError("invalid escape string")
    made: list[str] = []
    is_escaped = False
    for character in pattern:
        if character == escape and not is_escaped:
            made.append("\\")
            is_escaped = True
            continue
        made.append("\\\\" if character == "\\" and not is_escaped else character)
        is_escaped = False
    return "".join(made)


def _matches(kind: str) -> Iterator[tuple[str, Operation]]:
    yield f"{kind} ~~ text", raises(like, collation="equal")
    yield f"{kind} !~~ text", raises(not_like, collation="equal")
    yield f"{kind} ~~* text", raises(like, case_mapping=lower_of)
    yield f"{kind} !~~* text", raises(not_like, case_mapping=lower_of)


OPERATIONS: Final = {
    **dict(_matches("text")),
    **dict(_matches("name")),
    **dict(_matches("bpchar")),
    "like(text, text)": raises(like, collation="equal"),
    "like(name, text)": raises(like, collation="equal"),
    "notlike(text, text)": raises(not_like, collation="equal"),
    "notlike(name, text)": raises(not_like, collation="equal"),
    "like_escape(text, text)": raises(escaped_pattern),
}
