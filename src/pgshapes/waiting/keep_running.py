"""Keeps a background loop running: after an error it is begun again, until it is cancelled.

A loop that ends with an error ends its purpose for as long as the process lives: nothing is acknowledged, the
trash is not emptied, a child is not restarted. An error of the disk, a shortage of descriptors or memory, and
a defect alike are logged once and tried again after a pause. No state is kept between calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from pgshapes.errors import PgShapesError
from pgshapes.logs import get_logger
from pgshapes.waiting.backoff import Backoff

_log = get_logger(__name__)

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
STABLE_S: Final = 30.0
"""A loop that ran for this long had recovered: its next error is logged again."""


async def keep_running(
    name: str,
    work: Callable[[], Awaitable[None]],
    *,
    first_pause_s: float = FIRST_PAUSE_S,
    longest_pause_s: float = LONGEST_PAUSE_S,
) -> None:
    """Run `work`, and begin it again whenever it raises an Exception. Returns when it returns.

    `name` says in the log what has failed. An error is logged at its first occurrence in a row; a traceback
    is added unless the error is of the operating system or one that is raised deliberately.
    """
    backoff = Backoff(first_pause_s, longest_pause_s, stable_s=STABLE_S)
    failing: str | None = None
    while True:
        began_at = time.monotonic()
        try:
            await work()
            return
        except Exception as error:
            worked_s = time.monotonic() - began_at
            backoff.note_worked(worked_s)
            said = repr(error)
            if said != failing or worked_s >= STABLE_S:
                is_expected = isinstance(error, OSError | PgShapesError)
                _log.error(
                    "background task failed; restarting it",
                    task=name,
                    error=said,
                    exc_info=None if is_expected else error,
                )
            failing = said
        await asyncio.sleep(backoff.next_s())
