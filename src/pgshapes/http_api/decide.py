"""What to do with a request: the rules of docs/protocol.md as functions of plain values. Pure.

Decisions are in the imperative. `lookup` carries out those on identity, `reads` and `sse` those on reading,
and `live` waits where that is decided. Invariant: with a tail, an offset and
a mode there is exactly one decision, and after a hold there is exactly one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pgshapes.http_api.params import Now
from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset
from pgshapes.model.tail import Tail


@dataclass(frozen=True, slots=True)
class ServeHandle:
    """The request is about this handle."""

    handle: str


@dataclass(frozen=True, slots=True)
class AskOwner:
    """This process knows the handle for another shape or not at all; the owner has the last word."""


@dataclass(frozen=True, slots=True)
class FindOrCreate:
    """The definition alone decides."""


@dataclass(frozen=True, slots=True)
class MustRefetch:
    """409, with the right handle if it is known."""

    handle: str | None = None


@dataclass(frozen=True, slots=True)
class AwaitRemoval:
    """The shape is gone or going: 409 as soon as nobody can serve it any more."""


@dataclass(frozen=True, slots=True)
class ServeSnapshotChunk:
    """Send a chunk of the initial snapshot; the response's offset is `0_number`."""

    number: int


@dataclass(frozen=True, slots=True)
class ServeLog:
    """Send what the log has after this offset, up to the end of its chunk or of the log."""

    after: Offset


@dataclass(frozen=True, slots=True)
class SayUpToDate:
    """Nothing is after the requested offset and the client does not want to wait."""

    latest: Offset


@dataclass(frozen=True, slots=True)
class SayNoChange:
    """The end of the log is what was asked for, or nothing happened for as long as we hold."""

    latest: Offset


@dataclass(frozen=True, slots=True)
class WaitForSnapshot:
    """The snapshot chunk is not written yet."""

    number: int


@dataclass(frozen=True, slots=True)
class WaitForTail:
    """A live request at the end of the log."""

    latest: Offset


@dataclass(frozen=True, slots=True)
class WaitToCatchUp:
    """The offset is beyond the end of the log: after a restart we may be behind the client."""


@dataclass(frozen=True, slots=True)
class RefuseForNow:
    """503: waiting longer on this connection does not help."""

    message: str
    retry_after_s: int


class Wake(Enum):
    """Why a hold ended."""

    CHANGED = "changed"
    TIMED_OUT = "timed_out"
    STOPPING = "stopping"


class ServiceState(Enum):
    """What the service can do at the end of a hold."""

    DOWN = "down"
    READ_ONLY = "read_only"
    ACTIVE = "active"


IdentityDecision = ServeHandle | AskOwner | FindOrCreate
Serve = ServeSnapshotChunk | ServeLog
Wait = WaitForSnapshot | WaitForTail | WaitToCatchUp
ReadDecision = AwaitRemoval | Serve | SayUpToDate | SayNoChange | Wait
HoldDecision = MustRefetch | SayNoChange | RefuseForNow
Decision = ReadDecision | HoldDecision


def decide_identity(presented: str | None, found: str | None) -> IdentityDecision:
    """Which incarnation a request is about, from the presented handle and the one its definition has here."""
    if found is not None and presented in (None, found):
        return ServeHandle(found)
    return FindOrCreate() if presented is None else AskOwner()


def decide_read(offset: Offset | Now, is_live: bool, tail: Tail | None) -> ReadDecision:
    """What answers the offset. Without a tail the shape is gone."""
    if tail is None:
        return AwaitRemoval()
    if isinstance(offset, Now):
        return SayNoChange(tail.latest)
    chunk = _snapshot_chunk_after(offset)
    if chunk is not None and chunk < tail.snapshot_chunks:
        return ServeSnapshotChunk(chunk)
    if chunk is not None and not tail.is_snapshot_complete:
        return WaitForSnapshot(chunk)
    return _decide_log(max(offset, AFTER_SNAPSHOT), is_live, tail.latest)


def _snapshot_chunk_after(offset: Offset) -> int | None:
    if offset == BEFORE_ALL:
        return 0
    return offset.op + 1 if offset < AFTER_SNAPSHOT else None


def _decide_log(after: Offset, is_live: bool, latest: Offset) -> ReadDecision:
    if after < latest:
        return ServeLog(after)
    if after > latest:
        return WaitToCatchUp()
    return WaitForTail(latest) if is_live else SayUpToDate(latest)


def decide_after_hold(wait: Wait, wake: Wake, state: ServiceState, why_down: str) -> HoldDecision:
    """What ends a hold that no change of the tail has ended.

    `why_down` is what a client is told of a service that is down.
    """
    if isinstance(wait, WaitForTail):
        if wake is Wake.TIMED_OUT and state is ServiceState.DOWN:
            return RefuseForNow(why_down, retry_after_s=10)
        return SayNoChange(wait.latest)
    if isinstance(wait, WaitForSnapshot):
        return RefuseForNow("Timed out while waiting for the snapshot", retry_after_s=1)
    if wake is Wake.STOPPING or state is not ServiceState.ACTIVE:
        return RefuseForNow("The shape has not caught up with this offset yet", retry_after_s=5)
    return MustRefetch()


def is_up_to_date(end: Offset, latest: Offset) -> bool:
    """Whether a piece of the log that ends at `end` reaches the end of the log."""
    return end >= latest


def is_match(etag: str, if_none_match: list[str]) -> bool:
    """Whether one of the `if-none-match` values names this very response; weak forms do not count."""
    return any(etag == one.strip().strip('"') for value in if_none_match for one in value.split(","))
