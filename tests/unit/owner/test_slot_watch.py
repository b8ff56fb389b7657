"""What stops changes is said; beyond the limit shapes are dropped, then the slot is recreated."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from pgshapes.errors import SourceError
from pgshapes.gates.conditions import Condition, Conditions, is_met, stream_text
from pgshapes.owner.metrics import slot_families
from pgshapes.owner.slot_watch import CHECKS_BEFORE_DROPPING, UNPROCESSED, Holder, SlotWatch
from pgshapes.postgres.retained_wal import RetainedWal
from pgshapes.tables.tables import Tables

LIMIT = 1000
TOLD = "replication slot keeps more WAL than max_retained_wal"


class Instance:
    """What the watch looks at, and what it did."""

    def __init__(self, limit: int | None = LIMIT) -> None:
        self.stopped_by: str | None = None
        self.holders = 0
        self.done: list[str] = []
        self.now: RetainedWal | None = RetainedWal(0, 0, False, None)
        self.is_away = False
        self.heard_since: float | None = 0.0
        self.tables = Tables()
        self.watch = SlotWatch(self._read, self, Conditions(self.tables.status), limit, clock=lambda: 17.0)
        Conditions(self.tables.status).meet(Condition.CHANGES_FLOWING)

    async def _read(self) -> RetainedWal | None:
        if self.is_away:
            raise SourceError("no connection")
        return self.now

    def heard_at(self) -> float | None:
        return self.heard_since

    def obstacle(self) -> str | None:
        return self.stopped_by

    def drop_holders(self, reason: str) -> int:
        self.done.append("drop")
        return self.holders

    def recreate_slot(self, reason: str) -> None:
        self.done.append("recreate")

    def keep_slot(self) -> None:
        if "recreate" in self.done:
            self.done.append("keep")

    def keeps(self, total: int, unconfirmed: int | None = None, *, is_new: bool = False) -> None:
        """What the slot keeps from now on; by default, all of it is unconfirmed."""
        self.now = RetainedWal(total, total if unconfirmed is None else unconfirmed, is_new, None)

    @property
    def is_flowing(self) -> bool:
        return is_met(self.tables.status, Condition.CHANGES_FLOWING)


@pytest.fixture
def instance() -> Instance:
    return Instance()


async def looks(instance: Instance, times: int) -> list[Any]:
    """So many looks; returns what was logged."""
    with capture_logs() as lines:
        for _ in range(times):
            await instance.watch.check()
    return lines


async def test_an_obstacle_that_stays_is_told(instance: Instance) -> None:
    instance.stopped_by = "the storage directory is full"
    await looks(instance, 1)
    assert instance.is_flowing
    await looks(instance, 1)
    assert not instance.is_flowing
    assert instance.tables.status.get("changes_flowing").error == instance.stopped_by
    assert instance.watch.holder == Holder(instance.stopped_by, 17.0)
    instance.stopped_by = None
    await looks(instance, 1)
    assert instance.is_flowing
    assert instance.watch.holder is None


async def test_the_stream_is_described(instance: Instance) -> None:
    instance.now = RetainedWal(500, 200, False, None)
    await looks(instance, 1)
    assert stream_text(instance.tables.status) == "lag_bytes=200; heard_at=1970-01-01T00:00:00+00:00"
    instance.is_away = True
    await looks(instance, 1)
    assert stream_text(instance.tables.status).startswith("lag_bytes=unknown; ")


async def test_below_the_limit_nothing_is_done(instance: Instance) -> None:
    instance.now = RetainedWal(LIMIT, LIMIT, False, None)
    assert await looks(instance, 10) == []
    assert instance.done == []


async def test_without_a_limit_nothing_is_done() -> None:
    instance = Instance(None)
    instance.now = RetainedWal(10**15, 10**15, False, None)
    assert await looks(instance, 10) == []
    assert instance.done == []


async def test_a_burst_that_is_being_processed_costs_nothing(instance: Instance) -> None:
    """More than a few looks exceed the limit, but each few of them find less than any before."""
    instance.holders = 3
    for kept in range(20, 1, -1):
        instance.keeps(kept * LIMIT)
        await looks(instance, CHECKS_BEFORE_DROPPING)
    instance.keeps(LIMIT)
    await looks(instance, 10)
    assert instance.done == []


async def test_a_rest_between_writes_is_no_progress(instance: Instance) -> None:
    """Now and then there is less than at the look before, but never less than at any."""
    for kept in (2, 4, 3, 6, 5, 7):
        instance.keeps(kept * LIMIT)
        await looks(instance, 1)
    assert instance.done == ["drop", "recreate"]


async def test_the_shapes_that_hold_are_dropped_first(instance: Instance) -> None:
    instance.keeps(2 * LIMIT)
    instance.holders = 3
    lines = await looks(instance, CHECKS_BEFORE_DROPPING)
    assert instance.done == []
    await looks(instance, CHECKS_BEFORE_DROPPING)
    assert instance.done == ["drop"]
    assert [line["event"] for line in lines] == [TOLD]
    assert (lines[0]["held_by"], lines[0]["since"]) == (UNPROCESSED, "1970-01-01T00:00:17+00:00")
    instance.keeps(0)
    await looks(instance, 10)
    assert instance.done == ["drop"]


async def test_the_slot_is_recreated_if_that_does_not_help(instance: Instance) -> None:
    instance.keeps(2 * LIMIT)
    instance.holders = 3
    await looks(instance, 2 * CHECKS_BEFORE_DROPPING + 1)
    assert instance.done == ["drop", "recreate"]


async def test_the_slot_is_recreated_if_no_shape_holds_it(instance: Instance) -> None:
    instance.keeps(2 * LIMIT)
    lines = await looks(instance, CHECKS_BEFORE_DROPPING + 1)
    assert instance.done == ["drop", "recreate"]
    assert [line["event"] for line in lines] == [TOLD, "replication slot is recreated"]


async def test_a_request_is_withdrawn_when_it_is_no_longer_needed(instance: Instance) -> None:
    instance.keeps(2 * LIMIT)
    await looks(instance, CHECKS_BEFORE_DROPPING + 1)
    instance.is_away = True
    await looks(instance, 1)
    assert instance.done == ["drop", "recreate"]
    instance.is_away = False
    instance.keeps(LIMIT)
    await looks(instance, 1)
    assert instance.done == ["drop", "recreate", "keep"]


async def test_a_creation_of_the_slot_that_waits_is_begun_anew(instance: Instance) -> None:
    instance.now = RetainedWal(2 * LIMIT, 2 * LIMIT, True, "pid 4711")
    lines = await looks(instance, CHECKS_BEFORE_DROPPING + 1)
    assert instance.done == ["drop", "recreate"]
    assert lines[0]["held_by"] == "an open transaction: pid 4711"


async def test_an_open_transaction_is_named_and_nothing_is_dropped(instance: Instance) -> None:
    instance.now = RetainedWal(2 * LIMIT, 0, False, "pid 4711 of app", 3600.0)
    lines = await looks(instance, 10)
    assert instance.done == []
    assert [line["event"] for line in lines] == [TOLD]
    assert lines[0]["held_by"] == "an open transaction: pid 4711 of app"
    assert lines[0]["since"] == "1970-01-01T01:00:00+00:00"
    assert "does not help" in lines[0]["action"]


async def test_what_holds_the_slot_is_in_health_and_the_metrics_without_names(instance: Instance) -> None:
    instance.now = RetainedWal(2 * LIMIT, 0, False, "pid 4711 of app", 3600.0)
    await looks(instance, 1)
    told = 'held_by="an open transaction"; held_since=1970-01-01T01:00:00+00:00'
    assert stream_text(instance.tables.status).endswith(f"; {told}")
    assert held_by(instance) == {"an open transaction"}
    instance.keeps(0)
    await looks(instance, 1)
    assert "held_by" not in stream_text(instance.tables.status)
    assert held_by(instance) == {"nothing"}


async def test_what_holds_the_slot_before_the_first_stream_is_in_health(instance: Instance) -> None:
    instance.heard_since = None
    instance.keeps(2 * LIMIT, is_new=True)
    await looks(instance, 1)
    held = 'held_by="an open transaction"; held_since=1970-01-01T00:00:17+00:00'
    assert stream_text(instance.tables.status) == held


def held_by(instance: Instance) -> set[str]:
    """The labels of the metric."""
    (family,) = [one for one in slot_families(instance.watch) if one.name == "slot_held_seconds"]
    return {value for sample in family.samples for _, value in sample.labels}


async def test_a_database_that_cannot_be_asked_changes_nothing(instance: Instance) -> None:
    instance.is_away = True
    assert await looks(instance, 10) == []
    assert instance.watch.retained is None
