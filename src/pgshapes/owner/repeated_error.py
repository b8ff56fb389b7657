"""Recognises an error of the stream that does not pass: the same one, at the same position, three times.

A lost connection, a stopping server and a slot in use have other causes at each attempt, or none that is the
change's. An error that Postgres raises while it decodes one transaction comes back at each attempt: for
example a value of more than 512 MB, whose text Postgres cannot make. So does a message that cannot be read,
unless its bytes were damaged on the way. Pure.
"""

from __future__ import annotations

from typing import Final

from pgshapes.errors import SourceError, WireError
from pgshapes.model.lsn import Lsn

LASTING_FROM: Final = 3
LASTING_PAUSE_S: Final = 60.0
"""Between attempts at what does not pass: each decodes the same transaction again."""
_PASSING_CLASSES: Final = frozenset({"08", "53", "55", "57", "58"})
"""Connection, resources, object in use, operator intervention, input and output."""


class RepeatedError:
    """Counts the occurrences of one error in a row."""

    def __init__(self) -> None:
        self._last: tuple[str, str, Lsn] | None = None
        self._count = 0

    def note(self, error: Exception, lsn: Lsn | None) -> bool:
        """Note how a session ended, and at which position of the stream, or where it had begun; True if the
        error will not pass.
        """
        found = None
        if isinstance(error, SourceError | WireError) and lsn is not None and _may_last(error):
            found = (_kind(error), error.message, lsn)
        self._count = self._count + 1 if found is not None and found == self._last else 1
        self._last = found
        return found is not None and self._count >= LASTING_FROM


def _may_last(error: SourceError | WireError) -> bool:
    if isinstance(error, WireError):
        return True
    return error.sqlstate is not None and error.sqlstate[:2] not in _PASSING_CLASSES


def _kind(error: SourceError | WireError) -> str:
    return error.code if isinstance(error, WireError) else error.sqlstate or ""
