"""What is published when the disk is full: nothing is lost, and what a change ended is ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from tests.support.seams.routing_samples import live, new_router
from tests.support.storage.memory_store import MemoryShapeLog, MemoryShapeStore

from pgshapes.errors import DiskFull, StorageFailing, StorageShortage
from pgshapes.model.offset import Offset
from pgshapes.model.shape_state import ShapeState
from pgshapes.owner.change_path import LogPublisher
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.routed import Append, Routed
from pgshapes.shape_log.disk_errors import LIMIT_S, DiskErrors
from pgshapes.shape_log.store import Entry
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables


def one_entry() -> Append:
    """An entry of the shape 1."""
    router = new_router()
    live(router, "1")
    return Append("1", [Entry(Offset(200, 0), b"{}")], True, router._shapes["1"])


class FullLog(MemoryShapeLog):
    """A log on a disk that is full at the first attempt."""

    attempts = 0

    def append(self, entries: Sequence[Entry], *, ends_transaction: bool) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise DiskFull("no space left on device")
        super().append(entries, ends_transaction=ends_transaction)


class Store(MemoryShapeStore):
    """A store of such logs."""

    def create(self, handle: str) -> MemoryShapeLog:
        log = self._logs[handle] = FullLog(1000)
        return log


async def test_a_full_disk_does_not_keep_ended_shapes_alive() -> None:
    tables, store, ended = Tables(), Store(chunk_bytes=1000), dict[str, list[str]]()
    store.create("1")

    def end(handles: Iterable[str], reason: str) -> None:
        ended.setdefault(reason, []).extend(handles)

    publisher = LogPublisher(store, tables, end)
    routed = Routed()
    routed.appends.append(one_entry())
    routed.ended.append("2")
    routed.outdated.append("3")
    with pytest.raises(DiskFull):
        publisher.publish(routed, seen_lsn=200)
    assert list(ended.values()) == [["2"], ["3"]]
    publisher.retry()
    assert list(ended.values()) == [["2"], ["3"]]
    assert tables.tails["1"].latest == Offset(200, 0)


class Disk(MemoryShapeStore):
    """A store whose logs raise `error` if there is one."""

    error: Exception | None = None

    def create(self, handle: str) -> MemoryShapeLog:
        disk = self

        class Log(MemoryShapeLog):
            def append(self, entries: Sequence[Entry], *, ends_transaction: bool) -> None:
                if disk.error is not None:
                    raise disk.error
                super().append(entries, ends_transaction=ends_transaction)

        log = self._logs[handle] = Log(1000)
        return log


async def test_what_passes_ends_no_shape() -> None:
    now, ended = [0.0], list[str]()
    store = Disk(chunk_bytes=1000)
    store.create("1")

    def end(handles: Iterable[str], _: str) -> None:
        ended.extend(handles)

    publisher = LogPublisher(store, Tables(), end, disk_errors=DiskErrors(lambda: now[0]))
    routed = Routed()
    routed.appends.append(one_entry())
    store.error = StorageShortage("Too many open files")
    with pytest.raises(StorageShortage):
        publisher.publish(routed)
    now[0] = 10 * LIMIT_S
    with pytest.raises(StorageShortage):
        publisher.retry()
    store.error = StorageFailing("Input/output error")
    with pytest.raises(StorageFailing):
        publisher.retry()
    now[0] += LIMIT_S / 2 + 1
    with pytest.raises(StorageFailing):
        publisher.retry()
    now[0] += LIMIT_S / 2
    store.error = None
    publisher.retry()
    assert ended == []
    assert publisher._tables.tails["1"].latest == Offset(200, 0)


async def test_an_error_of_the_disk_that_lasts_ends_the_shape() -> None:
    now, ended = [0.0], list[str]()
    store = Disk(chunk_bytes=1000)
    store.create("1")

    def end(handles: Iterable[str], _: str) -> None:
        ended.extend(handles)

    publisher = LogPublisher(store, Tables(), end, disk_errors=DiskErrors(lambda: now[0]))
    routed = Routed()
    routed.appends.append(one_entry())
    store.error = StorageFailing("Input/output error")
    with pytest.raises(StorageFailing):
        publisher.publish(routed)
    now[0] = LIMIT_S / 2 + 1
    with pytest.raises(StorageFailing):
        publisher.retry()
    now[0] = LIMIT_S + 1
    publisher.retry()
    assert ended == ["1"]


async def test_a_defect_in_writing_ends_the_shape_and_no_other() -> None:
    failed = list[ShapeFailure]()
    store = Disk(chunk_bytes=1000)
    store.create("1")
    store.error = ValueError("a defect")
    publisher = LogPublisher(store, Tables(), lambda _, __: None, failed.append)
    routed = Routed(appends=[one_entry()])
    publisher.publish(routed)
    assert [(failure.handles, failure.error) for failure in failed] == [(("1",), store.error)]
    assert publisher.unwritten() == set()


@pytest.mark.parametrize("state", [None, *ShapeState])
async def test_a_shape_without_a_log_ends_unless_it_is_being_removed(state: ShapeState | None) -> None:
    """It would be served, and miss every change."""
    tables, ended = Tables(), list[str]()
    if state is not None:
        tables.shapes.put("1", ShapeRow(b"c", (1,), state))
    publisher = LogPublisher(Store(chunk_bytes=1000), tables, lambda handles, _: ended.extend(handles))
    publisher.publish(Routed(appends=[one_entry()]))
    assert ended == (["1"] if state is not None and state.is_in_use else [])
