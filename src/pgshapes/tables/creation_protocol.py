"""Who does what when a shape is asked for that is not there: the rules of design §6. Pure.

Caller and owner both decide here and nowhere else, from what they see in the tables; `shape_cache` and
`creations` carry the decisions out. So the rules can be explored without a loop, a link or a clock: a model
of two processes runs every interleaving of them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pgshapes.tables.rows import CreationLock, CreationState

ROUNDS: Final = 2
"""A flight that finds the lock gone and no shape begins again once: the owner was restarted, or the shape was
removed at once."""


class FlightStep(Enum):
    """What a caller's process does next for one definition."""

    LAND = "land"
    """The shape is ready."""
    FAIL = "fail"
    """Its creation has failed: everybody who waits is told why."""
    POLL = "poll"
    """Somebody has it created: no message, look again and again."""
    ASK = "ask"
    """Nobody has: one call to the owner."""
    GIVE_UP = "give_up"
    """503: it was not there after all rounds."""


class CallStep(Enum):
    """What the owner does with a call."""

    ANSWER = "answer"
    ATTACH = "attach"
    REFUSE = "refuse"
    """It failed within the last second: the answer is known."""
    CLAIM = "claim"
    """Set the lock, in the very turn in which the call arrived."""


def next_flight_step(
    *, is_ready: bool, has_seen_failure: bool, lock: CreationLock | None, rounds_left: int
) -> FlightStep:
    """The next step of a flight. A failure counts also when its row is gone again."""
    if is_ready:
        return FlightStep.LAND
    if has_seen_failure or is_failed(lock):
        return FlightStep.FAIL
    if not rounds_left:
        return FlightStep.GIVE_UP
    return FlightStep.ASK if lock is None else FlightStep.POLL


def is_poll_over(*, has_seen_failure: bool, lock: CreationLock | None, is_same_epoch: bool) -> bool:
    """Whether a flight that polls has something to find out."""
    return lock is None or is_failed(lock) or has_seen_failure or not is_same_epoch


def next_call_step(*, is_activated: bool, is_running: bool, lock: CreationLock | None) -> CallStep:
    """What the owner does with a call that has just arrived."""
    if is_activated:
        return CallStep.ANSWER
    if is_running:
        return CallStep.ATTACH
    return CallStep.REFUSE if is_failed(lock) else CallStep.CLAIM


def is_failed(lock: CreationLock | None) -> bool:
    """Whether the row is the answer for everybody who asks now."""
    return lock is not None and lock.state is CreationState.FAILED
