"""What a caller and the owner do next when a shape is requested that does not exist. Pure.

Only this module decides, from what is read in the tables; `shape_cache` and `owner/creations.py` carry the
decisions out. So the rules can be tested without an event loop, a link or a clock: a model of two processes
runs every interleaving of their steps.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pgshapes.tables.rows import CreationLock, CreationState

MAX_ATTEMPTS: Final = 2
"""How often a flight calls or polls. The second attempt is made when the first ends with neither a lock nor a
shape: the owner was restarted, or the shape was removed immediately."""


class FlightStep(Enum):
    """What a flight in a caller's process does next for one definition."""

    RETURN = "return"
    """The shape is ready: return its handle."""
    FAIL = "fail"
    """Its creation has failed: every waiter gets the error."""
    POLL = "poll"
    """A creation is in progress: poll its lock and send nothing."""
    ASK = "ask"
    """No creation is in progress: one call to the owner."""
    GIVE_UP = "give_up"
    """The shape was not ready after the last attempt: 503."""


class CallStep(Enum):
    """What the owner does with a call."""

    ANSWER = "answer"
    """The shape is live: return its handle."""
    ATTACH = "attach"
    """Wait for the creation that is in progress."""
    REFUSE = "refuse"
    """The creation failed within the last second: answer with its error."""
    CLAIM = "claim"
    """Begin a creation: set the lock in the loop turn in which the call arrived."""


def next_flight_step(
    *, is_ready: bool, has_seen_failure: bool, lock: CreationLock | None, attempts_left: int
) -> FlightStep:
    """The next step of a flight. A failure that it has seen counts even if the row has been removed since."""
    if is_ready:
        return FlightStep.RETURN
    if has_seen_failure or is_failed(lock):
        return FlightStep.FAIL
    if not attempts_left:
        return FlightStep.GIVE_UP
    return FlightStep.ASK if lock is None else FlightStep.POLL


def is_poll_over(*, has_seen_failure: bool, lock: CreationLock | None, is_same_epoch: bool) -> bool:
    """Whether a flight must stop polling and decide its next step."""
    return lock is None or is_failed(lock) or has_seen_failure or not is_same_epoch


def next_call_step(*, is_activated: bool, is_running: bool, lock: CreationLock | None) -> CallStep:
    """What the owner does with a call that has just arrived."""
    if is_activated:
        return CallStep.ANSWER
    if is_running:
        return CallStep.ATTACH
    return CallStep.REFUSE if is_failed(lock) else CallStep.CLAIM


def is_failed(lock: CreationLock | None) -> bool:
    """Whether the row says that the creation failed, which answers every request until it is removed."""
    return lock is not None and lock.state is CreationState.FAILED
