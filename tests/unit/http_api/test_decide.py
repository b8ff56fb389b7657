"""Tables of decisions."""

from __future__ import annotations

from itertools import product

import pytest

from pgshapes.http_api.decide import (
    AskOwner,
    AwaitRemoval,
    Decision,
    FindOrCreate,
    MustRefetch,
    RefuseForNow,
    SayNoChange,
    SayUpToDate,
    ServeHandle,
    ServeLog,
    ServeSnapshotChunk,
    ServiceState,
    Wait,
    WaitForSnapshot,
    WaitForTail,
    WaitToCatchUp,
    Wake,
    decide_after_hold,
    decide_identity,
    decide_read,
    is_match,
    is_up_to_date,
)
from pgshapes.http_api.params import Now
from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset
from pgshapes.model.tail import Tail

NEW = Tail()
WRITING = Tail(snapshot_chunks=2)
EMPTY_LOG = Tail(snapshot_chunks=3, is_snapshot_complete=True)
LATEST = Offset(50, 4)
WITH_LOG = EMPTY_LOG._replace(latest=LATEST)
EARLY_LOG = WRITING._replace(latest=LATEST)


@pytest.mark.parametrize(
    ("presented", "found", "decision"),
    [
        (None, None, FindOrCreate()),
        (None, "a", ServeHandle("a")),
        ("a", "a", ServeHandle("a")),
        ("a", "b", AskOwner()),
        ("a", None, AskOwner()),
    ],
)
def test_identity(presented: str | None, found: str | None, decision: object) -> None:
    assert decide_identity(presented, found) == decision


@pytest.mark.parametrize(
    ("offset", "tail", "decision"),
    [
        (BEFORE_ALL, None, AwaitRemoval()),
        (Now.NOW, None, AwaitRemoval()),
        (Offset(1, 1), None, AwaitRemoval()),
        # the snapshot
        (BEFORE_ALL, NEW, WaitForSnapshot(0)),
        (BEFORE_ALL, WRITING, ServeSnapshotChunk(0)),
        (BEFORE_ALL, WITH_LOG, ServeSnapshotChunk(0)),
        (Offset(0, 0), NEW, WaitForSnapshot(1)),
        (Offset(0, 0), WRITING, ServeSnapshotChunk(1)),
        (Offset(0, 1), WRITING, WaitForSnapshot(2)),
        (Offset(0, 9), WRITING, WaitForSnapshot(10)),
        (Offset(0, 1), EARLY_LOG, WaitForSnapshot(2)),
        (Offset(0, 1), EMPTY_LOG, ServeSnapshotChunk(2)),
        # n is the last chunk or beyond: the log from its start
        (Offset(0, 2), WITH_LOG, ServeLog(AFTER_SNAPSHOT)),
        (Offset(0, 9), WITH_LOG, ServeLog(AFTER_SNAPSHOT)),
        (AFTER_SNAPSHOT, WITH_LOG, ServeLog(AFTER_SNAPSHOT)),
        (AFTER_SNAPSHOT, EARLY_LOG, ServeLog(AFTER_SNAPSHOT)),
        # the log
        (Offset(1, 0), WITH_LOG, ServeLog(Offset(1, 0))),
        (Offset(50, 3), WITH_LOG, ServeLog(Offset(50, 3))),
        # beyond
        (Offset(50, 5), WITH_LOG, WaitToCatchUp()),
        (Offset(1, 0), EMPTY_LOG, WaitToCatchUp()),
        (Offset(1, 0), NEW, WaitToCatchUp()),
        # now
        (Now.NOW, NEW, SayNoChange(AFTER_SNAPSHOT)),
        (Now.NOW, WITH_LOG, SayNoChange(LATEST)),
    ],
)
def test_reading_is_the_same_live_or_not(offset: Offset | Now, tail: Tail | None, decision: Decision) -> None:
    assert decide_read(offset, False, tail) == decision
    assert decide_read(offset, True, tail) == decision


@pytest.mark.parametrize(
    ("offset", "tail", "latest"),
    [
        (Offset(0, 2), EMPTY_LOG, AFTER_SNAPSHOT),
        (Offset(0, 9), EMPTY_LOG, AFTER_SNAPSHOT),
        (AFTER_SNAPSHOT, EMPTY_LOG, AFTER_SNAPSHOT),
        (LATEST, WITH_LOG, LATEST),
    ],
)
def test_at_the_end_only_live_requests_wait(offset: Offset, tail: Tail, latest: Offset) -> None:
    assert decide_read(offset, False, tail) == SayUpToDate(latest)
    assert decide_read(offset, True, tail) == WaitForTail(latest)


AT_TAIL = WaitForTail(LATEST)
BEHIND = RefuseForNow("The shape has not caught up with this offset yet", 5)
NO_SNAPSHOT = RefuseForNow("Timed out while waiting for the snapshot", 1)
WHY = "no lock"
DOWN = RefuseForNow(WHY, 10)
QUIET = SayNoChange(LATEST)


@pytest.mark.parametrize(
    ("wait", "wake", "state", "decision"),
    [
        (AT_TAIL, Wake.TIMED_OUT, ServiceState.ACTIVE, QUIET),
        (AT_TAIL, Wake.TIMED_OUT, ServiceState.READ_ONLY, QUIET),
        (AT_TAIL, Wake.TIMED_OUT, ServiceState.DOWN, DOWN),
        (AT_TAIL, Wake.STOPPING, ServiceState.ACTIVE, QUIET),
        (AT_TAIL, Wake.STOPPING, ServiceState.DOWN, DOWN),
        (WaitToCatchUp(), Wake.TIMED_OUT, ServiceState.ACTIVE, MustRefetch()),
        (WaitToCatchUp(), Wake.TIMED_OUT, ServiceState.READ_ONLY, BEHIND),
        (WaitToCatchUp(), Wake.TIMED_OUT, ServiceState.DOWN, BEHIND),
        (WaitToCatchUp(), Wake.STOPPING, ServiceState.ACTIVE, BEHIND),
        (WaitForSnapshot(1), Wake.TIMED_OUT, ServiceState.ACTIVE, NO_SNAPSHOT),
        (WaitForSnapshot(1), Wake.STOPPING, ServiceState.ACTIVE, NO_SNAPSHOT),
    ],
)
def test_after_a_hold(wait: Wait, wake: Wake, state: ServiceState, decision: Decision) -> None:
    assert decide_after_hold(wait, wake, state, WHY) == decision


OFFSETS = [
    BEFORE_ALL,
    Offset(0, 0),
    Offset(0, 2),
    AFTER_SNAPSHOT,
    Offset(50, 3),
    LATEST,
    Offset(51, 0),
    Now.NOW,
]
TAILS = [None, NEW, WRITING, EARLY_LOG, EMPTY_LOG, WITH_LOG]


@pytest.mark.parametrize(("offset", "is_live", "tail"), [*product(OFFSETS, [False, True], TAILS)])
def test_every_request_has_a_decision_and_none_is_a_400(
    offset: Offset | Now, is_live: bool, tail: Tail | None
) -> None:
    decision = decide_read(offset, is_live, tail)
    if isinstance(decision, Wait):
        for wake, state in product([Wake.TIMED_OUT, Wake.STOPPING], ServiceState):
            after = decide_after_hold(decision, wake, state, WHY)
            assert isinstance(after, MustRefetch | SayNoChange | RefuseForNow)


@pytest.mark.parametrize(
    ("end", "latest", "answer"),
    [(LATEST, LATEST, True), (Offset(50, 3), LATEST, False), (AFTER_SNAPSHOT, AFTER_SNAPSHOT, True)],
)
def test_up_to_date(end: Offset, latest: Offset, answer: bool) -> None:
    assert is_up_to_date(end, latest) is answer


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        (['"H:-1:0_0"'], True),
        (["H:-1:0_0"], True),
        (['"x", "H:-1:0_0"'], True),
        (['"x"', ' "H:-1:0_0" '], True),
        (['W/"H:-1:0_0"'], False),
        (["*"], False),
        ([], False),
    ],
)
def test_if_none_match(values: list[str], answer: bool) -> None:
    assert is_match("H:-1:0_0", values) is answer
