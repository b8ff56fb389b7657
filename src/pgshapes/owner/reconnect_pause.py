"""How long to wait before the next session after one has failed. Pure, apart from chance.

A pause is twice as long as the one before, up to a limit, unless the session in between has worked for longer
than that pause. So a server that stays away is asked ever less often, and a connection that is cut now and
then does not make the pauses longer for ever. State: the last pause.
"""

from __future__ import annotations

import random
from typing import Final

FIRST_S: Final = 0.5


class ReconnectPause:
    """The pauses of one replicator."""

    def __init__(self) -> None:
        self._last_s = 0.0

    def after(self, worked_s: float, *, longest_s: float) -> float:
        """Seconds to wait after a session that worked for `worked_s` seconds, 0 if it never began."""
        grown_s = min(max(2 * self._last_s, FIRST_S), longest_s)
        self._last_s = FIRST_S if worked_s > self._last_s else grown_s
        return self._last_s * random.uniform(0.75, 1.25)
