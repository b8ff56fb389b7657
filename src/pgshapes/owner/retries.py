"""Decides what follows a session that failed: the next attempt after a pause, or the end of the program.

Not here: the sessions. State: the next pause, the errors in a row, and what a first start waits for.
"""

from __future__ import annotations

from typing import Final

import structlog

from pgshapes.errors import ConfigError, SourceError
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.model.lsn import Lsn
from pgshapes.owner.database_wait import DatabaseWait
from pgshapes.owner.repeated_error import LASTING_PAUSE_S, RepeatedError
from pgshapes.owner.stream_errors import lasting
from pgshapes.postgres.sqlstate import config_error, may_pass
from pgshapes.waiting.backoff import Backoff

_log = structlog.get_logger(__name__)

_RECONNECT_FIRST_S: Final = 0.5
_RECONNECT_CAP_S: Final = 10.0
_START_CAP_S: Final = 2.0
"""The longest pause at the first start, when nothing else is served that attempts could disturb."""
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

    async def started(self) -> None:
        """A session has begun to stream."""
        self.has_started = True
        await self._wait.end()

    async def close(self) -> None:
        """Say no more what is waited for."""
        await self._wait.end()

    def pause_after(
        self, error: SourceError | ConfigError, streamed_s: float, streamed_from: Lsn | None
    ) -> float:
        """Log the failure of a session; return the pause before the next one, in seconds.

        `streamed_s` is how long it streamed, 0 if it did not, and `streamed_from` is from where. Raises
        ConfigError at the first start if waiting does not help.
        """
        self._backoff.cap_s = _RECONNECT_CAP_S if self.has_started else _START_CAP_S
        self._backoff.note_worked(streamed_s)
        is_lasting = self._repeated.note(error, streamed_from)
        pause_s = LASTING_PAUSE_S if is_lasting else self._backoff.next_s()
        if is_lasting:
            error = lasting(error, streamed_from or 0, self._slot)
        self._note(error, pause_s)
        return pause_s

    def _note(self, error: SourceError | ConfigError, pause_s: float) -> None:
        for condition in _CONNECTION_CONDITIONS:
            self._conditions.unmeet(condition, error.client_text)
        if self.has_started:
            _log.warning(
                "database connection lost; reconnecting", error=error.message, pause_s=round(pause_s, 2)
            )
        elif isinstance(error, ConfigError):
            raise error
        elif not may_pass(error):
            raise config_error(error) from error
        else:
            self._wait.note(error.message)
