"""Decides what follows a session that failed: the next attempt after a pause, or the end of the program.

Once an instance has started, everything is tried again, a defect included: it serves the shapes that it
has, and nothing is acknowledged before it is durable. Only a stream that cannot be read, three times at the
same message, ends it. A first start ends with what waiting does not cure, so that the operator sees it at
once; it waits for a shortage.

Not here: the sessions. State: the next pause, the errors in a row, and what a first start waits for.
"""

from __future__ import annotations

from typing import Final

from pgshapes.errors import (
    ConfigError,
    NotNow,
    PgShapesError,
    SourceError,
    StorageShortage,
    is_shortage,
    may_pass,
)
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.logs import get_logger
from pgshapes.model.lsn import Lsn, format_lsn
from pgshapes.owner.database_wait import DatabaseWait
from pgshapes.owner.repeated_error import LASTING_PAUSE_S, RepeatedError
from pgshapes.owner.storage_dir import storage_unusable
from pgshapes.owner.stream_errors import UnreadableMessage, lasting, unreadable
from pgshapes.postgres import sqlstate
from pgshapes.waiting.backoff import Backoff

_log = get_logger(__name__)

_RECONNECT_FIRST_S: Final = 0.5
_RECONNECT_CAP_S: Final = 10.0
_START_CAP_S: Final = 2.0
"""The longest pause at the first start, when nothing else is served that attempts could disturb."""
_DATABASE: Final = "the database: it is unreachable or reported an error"
_RESOURCES: Final = "room or resources"
"""What clients may read of what a first start waits for; the log has the reason."""
_CONNECTION_CONDITIONS: Final = (
    Condition.LOCK_ACQUIRED,
    Condition.REPLICATION_CLIENT_READY,
    Condition.INTEGRITY_CHECKS_PASSED,
)


class Retries:
    """The attempts of one instance at a session."""

    def __init__(self, conditions: Conditions, slot: str, *, is_restart: bool) -> None:
        self._conditions = conditions
        self._slot = slot
        self.has_started = is_restart
        """Whether every failure is retried; False until the first start has succeeded."""
        self._backoff = Backoff(_RECONNECT_FIRST_S, _START_CAP_S)
        self._repeated = RepeatedError()
        self._wait = DatabaseWait()
        self._said = ""
        """The failure whose traceback was logged last."""

    async def started(self) -> None:
        """A session has begun to stream."""
        if not self.has_started:
            self._conditions.meet(Condition.CHANGES_FLOWING)
        self.has_started = True
        await self._wait.end()

    async def close(self) -> None:
        """Say no more what is waited for."""
        await self._wait.end()

    def pause_after(self, error: Exception, streamed_s: float, streamed_from: Lsn | None) -> float:
        """Log the failure of a session; return the pause before the next one, in seconds.

        `streamed_s` is how long it streamed, 0 if it did not, and `streamed_from` is from where. Raises the
        error with which the program has to end: UnreadableStream, and at the first start what waiting does
        not cure, that of the database as ConfigError.
        """
        self._backoff.cap_s = _RECONNECT_CAP_S if self.has_started else _START_CAP_S
        self._backoff.note_worked(streamed_s)
        at = error.lsn or streamed_from if isinstance(error, UnreadableMessage) else streamed_from
        is_lasting = self._repeated.note(error, at)
        if is_lasting and isinstance(error, UnreadableMessage):
            raise unreadable(error, self._slot) from error
        pause_s = LASTING_PAUSE_S if is_lasting else self._backoff.next_s()
        if isinstance(error, SourceError) and is_lasting:
            error = lasting(error, streamed_from or 0, self._slot)
        shown = error.client_text if isinstance(error, PgShapesError) else PgShapesError.shown
        for condition in _CONNECTION_CONDITIONS:
            self._conditions.unmeet(condition, shown)
        if self.has_started:
            self._log(error, pause_s)
        else:
            self._wait_for(error)
        return pause_s

    def _log(self, error: Exception, pause_s: float) -> None:
        paused = round(pause_s, 2)
        if isinstance(error, UnreadableMessage):
            lsn = format_lsn(error.received_lsn)
            event = "replication stream could not be read; reconnecting"
            _log.warning(event, error=error.message, lsn=lsn, pause_s=paused)
            return
        if isinstance(error, SourceError | ConfigError):
            _log.warning("database connection lost; reconnecting", error=error.message, pause_s=paused)
            return
        said = repr(error)
        is_new, self._said = said != self._said, said
        is_expected = isinstance(error, PgShapesError) or is_shortage(error)
        _log.error(
            "session failed; trying again",
            error=said,
            pause_s=paused,
            exc_info=error if is_new and not is_expected else None,
        )

    def _wait_for(self, error: Exception) -> None:
        if isinstance(error, SourceError):
            if not sqlstate.may_pass(error):
                raise sqlstate.config_error(error) from error
            self._conditions.unmeet(Condition.CHANGES_FLOWING, _DATABASE)
            self._wait.note(error.message)
        elif isinstance(error, NotNow) or is_passing(error):
            self._conditions.unmeet(Condition.CHANGES_FLOWING, _RESOURCES)
            self._wait.note(str(error) or repr(error), f"waiting for {_RESOURCES}")
        elif isinstance(error, StorageShortage):
            raise storage_unusable(error.message) from error
        else:
            raise error


def is_passing(error: Exception) -> bool:
    """Whether waiting may cure the error: a shortage, ours or of the system. An error of the disk is judged
    by its number, if it has one: a shape may get over it where a start does not.
    """
    if isinstance(error, StorageShortage):
        number = error.details.get("errno")
        return number is None or may_pass(number)
    return is_shortage(error)
