"""LIKE and ILIKE (manual: Pattern Matching).

A pattern is split at its `%` into pieces of fixed length, which are searched for from left to right without
backtracking. The time is linear in text and pattern, but for a piece with `_` inside, which may be compared
with the text at each of its positions. ILIKE is LIKE after lower() of both operands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import groupby
from typing import Final, NamedTuple

from pgshapes.where.types.operation import Operation, RowError, TooExpensive, raises
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
_SHORT_PIECE: Final = 16
"""Longest piece that a regular expression searches for: its time is that of text times piece."""
_SHORT_PATTERN: Final = 1_000
_MAX_STEPS: Final = 2_000_000_000
"""Characters of the text times length of a piece with `_` inside, when the pattern is a column's: about two
seconds. A constant pattern is limited when the clause is made (`costs`).
"""

_LONGEST_PIECE: Final = 10_000
"""Of pieces with `_` inside in the pattern of a column; it takes 0.1 s to compile."""

Test = Callable[[str], object]
"""Returns None for a text that does not match."""


class Pattern(NamedTuple):
    """A pattern as a test. `kind` is exact, prefix, suffix, contains, search or malformed."""

    kind: str
    text: str
    test: Test | None
    searched: int = 0
    """The length of the longest piece for which each position of the text is tried; its time is that of the
    text times this length.
    """


class _Piece(NamedTuple):
    """What stands between two `%`: `lead` characters, then the core, then `trail` characters. The core, of
    which "" is any character, begins and ends with a given one, or is empty.
    """

    lead: int
    core: tuple[str, ...]
    trail: int

    @property
    def has_gaps(self) -> bool:
        """Whether there are `_` inside the core."""
        return "" in self.core


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


def compile_pattern(pattern: str) -> Pattern:
    """The test of a pattern. Short ones are remembered."""
    return _compile(pattern) if len(pattern) <= _SHORT_PATTERN else _compile.__wrapped__(pattern)


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> Pattern:
    pieces = split_pattern(pattern)
    if pieces is None:
        return Pattern("malformed", pattern, None)
    if all("" not in piece for piece in pieces):
        plain = _without_wildcards(["".join(piece) for piece in pieces])
        if plain is not None:
            return plain
    middle = [_piece(piece) for piece in pieces[1:-1] if piece]
    if len(pattern) <= _SHORT_PATTERN and all(len(piece.core) <= _SHORT_PIECE for piece in middle):
        searched = max((len(piece.core) for piece in middle), default=0)
        return Pattern("search", "", re.compile(_regex(pieces), re.DOTALL).fullmatch, searched)
    searched = max((len(piece.core) for piece in middle if piece.has_gaps), default=0)
    return Pattern("search", "", _Search(pieces[0], middle, pieces[-1] if pieces[1:] else None), searched)


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


def _piece(characters: list[str]) -> _Piece:
    start, end = 0, len(characters)
    while start < end and not characters[start]:
        start += 1
    while end > start and not characters[end - 1]:
        end -= 1
    return _Piece(start, tuple(characters[start:end]), len(characters) - end)


def _source(characters: Iterable[str]) -> str:
    """The regular expression of characters of which "" is any."""
    runs = [list(run) for _, run in groupby(characters, key=bool)]
    return "".join(re.escape("".join(run)) if run[0] else f".{{{len(run)}}}" for run in runs)


def _regex(pieces: list[list[str]]) -> str:
    """The regular expression: each piece but the last matches where it first occurs, and the last one is
    looked for at the end only (atomic groups prevent backtracking).
    """
    if len(pieces) == 1:
        return _source(pieces[0])
    first, *middle, last = pieces
    sources = [_source(first)]
    for lead, core, trail in map(_piece, middle):
        found = f"(?>.*?{_source(core)})" if core else ""
        sources.append(f"{_any(lead)}{found}{_any(trail)}")
    end = f"(?>.{{{len(last)},}})(?<={_source(last)})" if last else ".*"
    return "".join(sources) + end


def _any(count: int) -> str:
    return f".{{{count}}}" if count else ""


class _Search:
    """The test of a pattern with long pieces: in linear time, but for pieces with `_` inside."""

    def __init__(self, first: list[str], middle: list[_Piece], last: list[str] | None) -> None:
        self._first = _runs(first)
        self._start = len(first)
        self._last = None if last is None else _runs(last)
        self._end = len(last or ())
        self._middle = [(piece, _finder(piece)) for piece in middle]

    def __call__(self, text: str) -> str | None:
        last_at = len(text) - self._end
        if last_at < self._start or (self._last is None and last_at > self._start):
            return None
        if not _has_runs(text, 0, self._first) or not _has_runs(text, last_at, self._last or ()):
            return None
        at = self._start
        for piece, find in self._middle:
            at = find(text, at + piece.lead)
            if at < 0:
                return None
            at += len(piece.core) + piece.trail
        return text if at <= last_at else None


_Runs = tuple[tuple[int, str], ...]


def _runs(characters: list[str]) -> _Runs:
    """The given characters of a piece, joined, each with its place."""
    runs, at = [], 0
    for is_given, run in groupby(characters, key=bool):
        found = list(run)
        if is_given:
            runs.append((at, "".join(found)))
        at += len(found)
    return tuple(runs)


def _has_runs(text: str, at: int, runs: _Runs) -> bool:
    return all(text.startswith(run, at + place) for place, run in runs)


def _finder(piece: _Piece) -> Callable[[str, int], int]:
    """The function that returns where the core first occurs in a text from a place on, -1 if nowhere."""
    if not piece.has_gaps:
        core = "".join(piece.core)
        return lambda text, at: text.find(core, at)
    search = cache(lambda: re.compile(_source(piece.core), re.DOTALL).search)

    def find(text: str, at: int) -> int:
        found = search()(text, at)
        return -1 if found is None else found.start()

    return find


def _is_expensive(searched: int, length: int) -> bool:
    return searched * length > _MAX_STEPS or _LONGEST_PIECE < searched <= length


def like(text: str, pattern: str) -> bool:
    """`text LIKE pattern`. Raises RowError, and TooExpensive."""
    kind, wanted, test, searched = compile_pattern(pattern)
    if test is not None:
        if searched > _SHORT_PIECE and _is_expensive(searched, len(text)):
            raise TooExpensive(f"LIKE of {len(text):,} characters and a pattern of {len(pattern):,}")
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
