"""Decides how to answer a request: the rules of docs/protocol.md as functions of plain values. Pure.

The names of decisions are imperatives. `lookup` carries out those on identity, `reads` and `sse` those on
reading, and `live` waits. Invariant: a tail, an offset and a mode determine one decision, and after a hold
there is exactly one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pgshapes.http_api.params import Now
from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset
from pgshapes.model.tail import Tail


@dataclass(frozen=True, slots=True)
class ServeHandle:
    """Serve this handle."""

    handle: str


@dataclass(frozen=True, slots=True)
class AskOwner:
    """Ask the owner about the handle: this process does not know it, or knows it for another shape."""


@dataclass(frozen=True, slots=True)
class FindOrCreate:
    """Find or create the shape of the definition; no handle was presented."""


@dataclass(frozen=True, slots=True)
class MustRefetch:
    """Send 409, with the right handle if it is known."""

    handle: str | None = None


@dataclass(frozen=True, slots=True)
class AwaitRemoval:
    """The shape is retiring or removed: send 409 once no process can serve it."""


@dataclass(frozen=True, slots=True)
class ServeSnapshotChunk:
    """Send a chunk of the initial snapshot; the offset of the response is `0_number`."""

    number: int


@dataclass(frozen=True, slots=True)
class ServeLog:
    """Send the log after this offset, up to the end of the chunk or of the log."""

    after: Offset


@dataclass(frozen=True, slots=True)
class SayUpToDate:
    """Send `up-to-date`: the log has nothing after the requested offset, and the request is not live."""

    latest: Offset


@dataclass(frozen=True, slots=True)
class SayNoChange:
    """Send `up-to-date` without data: the requested offset is `now`, or a hold ended without a change."""

    latest: Offset


@dataclass(frozen=True, slots=True)
class WaitForSnapshot:
    """Hold the request until the snapshot chunk is written."""

    number: int


@dataclass(frozen=True, slots=True)
class WaitForTail:
    """Hold a live request that is at the end of the log."""

    latest: Offset


@dataclass(frozen=True, slots=True)
class WaitToCatchUp:
    """Hold a request beyond the end of the log: after a restart the log may be behind the client."""


@dataclass(frozen=True, slots=True)
class RefuseForNow:
    """Send 503: the hold has ended without a result."""

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
    """The handle to serve, from the presented handle and the handle that this process has for the
    definition.
    """
    if found is not None and presented in (None, found):
        return ServeHandle(found)
    return FindOrCreate() if presented is None else AskOwner()


def decide_read(offset: Offset | Now, is_live: bool, tail: Tail | None) -> ReadDecision:
    """How to answer a request at `offset`. Without a tail the shape has been removed."""
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
    """How to answer a request after a hold that ended without a change of the tail.

    `why_down` is the message for a service that is down.
    """
    if isinstance(wait, WaitForTail):
        if state is ServiceState.DOWN:
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
    """Whether one of the `if-none-match` values is this entity tag; weak tags do not match."""
    return any(etag == one.strip().strip('"') for value in if_none_match for one in value.split(","))
