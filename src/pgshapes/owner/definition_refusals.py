"""The definitions that are refused because a shape of them could not process a change.

The next shape of such a definition would end in the same way, and its clients would refetch each time, so
the definition is refused until its table changes. Not stored: after a restart it may be tried again, once.
State is owned by the replicator's loop.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from pgshapes.errors import RequestError
from pgshapes.model.shape import ResolvedShape

LIMIT: Final = 10_000
"""Refused definitions at most, 100 bytes each and a shared error; the oldest may be tried again."""


class DefinitionRefusals:
    """The errors of refused definitions."""

    def __init__(self) -> None:
        self._refused: dict[bytes, tuple[int, RequestError]] = {}
        """By digest of the comparable: the generation of the table, and the error."""

    def __len__(self) -> int:
        return len(self._refused)

    def note(self, comparable: bytes, generation: int, error: RequestError) -> None:
        """Refuse a definition with this error, as long as its table has this generation."""
        if len(self._refused) >= LIMIT:
            del self._refused[next(iter(self._refused))]
        self._refused[_digest(comparable)] = (generation, error)

    def check(self, shape: ResolvedShape) -> None:
        """Raise the RequestError of a refused definition."""
        if not self._refused:
            return
        digest = _digest(shape.comparable)
        generation, error = self._refused.get(digest, (None, None))
        if error is None:
            return
        if generation == shape.relations[0].generation:
            raise RequestError(error.client_text, status=error.status, errors=error.errors)
        del self._refused[digest]


def _digest(comparable: bytes) -> bytes:
    return sha256(comparable).digest()
