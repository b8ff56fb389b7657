"""Values that are made from large texts, kept while a fragment is evaluated, so that many clauses, and many
parts of one clause, make them once.

Nothing is dropped within a change: a value that is made again for each clause would take the time of all of
them. State belongs to the process that evaluates clauses for the stream: `keep` before the first evaluation,
`forget` after each fragment, `limit` between changes. Nothing is kept in other processes, which read
constants only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

Made = TypeVar("Made")

LARGE: Final = 1_000
"""Characters of a text, and items of a value: less is made again as fast as it is looked up."""
_MAX_CHARACTERS: Final = 8_000_000
"""Of all texts that are kept from one change to the next."""


class _Kept:
    """What is kept now."""

    def __init__(self) -> None:
        self.is_active = False
        self.made = 0
        """How many values were made and kept, ever."""
        self.is_used = False
        """Whether there is anything to `forget`."""
        self.characters = 0
        self.decoded: dict[tuple[Callable[[str], Any], str], Any] = {}
        self.derived: dict[tuple[Callable[[Any], Any], int], tuple[Any, Any]] = {}
        """With the value from which each was derived, so that its id is not used again."""

    def clear(self) -> None:
        """Forget all of it."""
        self.is_used = False
        self.characters = 0
        self.decoded.clear()
        self.derived.clear()


kept: Final = _Kept()
"""Of this process; other modules only ask whether it is used."""


def keep(*, is_active: bool = True) -> None:
    """Keep values from now on, or no longer."""
    kept.is_active = is_active


def forget() -> None:
    """Forget what is kept."""
    kept.clear()


def limit() -> None:
    """Forget what is kept if it is much. To be called when no change is under way."""
    if kept.characters > _MAX_CHARACTERS:
        kept.clear()


def made() -> int:
    """How many values were made and kept so far. It grows by what may take long and is not repeated."""
    return kept.made


def decoded(decode: Callable[[str], Made], text: str, key: Callable[[str], Any] | None = None) -> Made:
    """`decode(text)`. `key` stands for `decode`, if that is not the same object each time."""
    if len(text) < LARGE or not kept.is_active:
        return decode(text)
    place = (key or decode, text)
    found = kept.decoded.get(place)
    if found is None:
        found = decode(text)
        kept.is_used = True
        kept.made += 1
        kept.characters += len(text)
        kept.decoded[place] = found
    made: Made = found
    return made


def derived(derive: Callable[[tuple[Any, ...]], Made], source: tuple[Any, ...]) -> Made:
    """`derive(source)`; `derive` is the same object each time."""
    if len(source) < LARGE or not kept.is_active:
        return derive(source)
    place = (derive, id(source))
    found = kept.derived.get(place)
    if found is None:
        kept.is_used = True
        found = kept.derived[place] = (source, derive(source))
        kept.made += 1
    made: Made = found[1]
    return made
