"""Values that are made from large texts, kept while a fragment is evaluated, so that many clauses, and many
parts of one clause, make them once.

State belongs to the process that evaluates clauses for the stream: `keep` before the first evaluation,
`forget` after each fragment. Nothing is kept in other processes, which read constants only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

Made = TypeVar("Made")

_LARGE: Final = 1_000
"""Characters of a text, and items of a value: less is made again as fast as it is looked up."""
_MAX_CHARACTERS: Final = 8_000_000
"""Of all texts kept; one larger text is kept alone."""


class _Kept:
    """What is kept now."""

    def __init__(self) -> None:
        self.is_active = False
        self.characters = 0
        self.decoded: dict[tuple[Callable[[str], Any], str], Any] = {}
        self.derived: dict[tuple[Callable[[Any], Any], int], tuple[Any, Any]] = {}
        """With the value from which each was derived, so that its id is not used again."""

    def clear(self) -> None:
        """Forget all of it."""
        self.characters = 0
        self.decoded.clear()
        self.derived.clear()


_kept: Final = _Kept()


def keep(*, is_active: bool = True) -> None:
    """Keep values from now on, or no longer."""
    _kept.is_active = is_active


def forget() -> None:
    """Forget what is kept."""
    if _kept.decoded or _kept.derived:
        _kept.clear()


def decoded(decode: Callable[[str], Made], text: str, key: Callable[[str], Any] | None = None) -> Made:
    """`decode(text)`. `key` stands for `decode`, if that is not the same object each time."""
    if len(text) < _LARGE or not _kept.is_active:
        return decode(text)
    place = (key or decode, text)
    found = _kept.decoded.get(place)
    if found is None:
        found = decode(text)
        if _kept.characters + len(text) > _MAX_CHARACTERS:
            _kept.clear()
        _kept.characters += len(text)
        _kept.decoded[place] = found
    made: Made = found
    return made


def derived(derive: Callable[[tuple[Any, ...]], Made], source: tuple[Any, ...]) -> Made:
    """`derive(source)`; `derive` is the same object each time."""
    if len(source) < _LARGE or not _kept.is_active:
        return derive(source)
    place = (derive, id(source))
    found = _kept.derived.get(place)
    if found is None:
        found = _kept.derived[place] = (source, derive(source))
    made: Made = found[1]
    return made
