"""What is published when the disk is full: nothing is lost, and what a TRUNCATE ended is ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from tests.support.storage.memory_store import MemoryShapeLog, MemoryShapeStore

from pgshapes.errors import DiskFull
from pgshapes.model.offset import Offset
from pgshapes.owner.change_path import LogPublisher
from pgshapes.routing.routed import Append, Routed
from pgshapes.shape_log.store import Entry
from pgshapes.tables.tables import Tables


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


async def test_a_full_disk_does_not_keep_truncated_shapes_alive() -> None:
    tables, store, ended = Tables(), Store(chunk_bytes=1000), list[str]()
    store.create("1")

    def end(handles: Iterable[str], _: str) -> None:
        ended.extend(handles)

    publisher = LogPublisher(store, tables, end)
    routed = Routed()
    routed.appends.append(Append("1", [Entry(Offset(200, 0), b"{}")], True))
    routed.ended.append("2")
    with pytest.raises(DiskFull):
        publisher.publish(routed, seen_lsn=200)
    assert ended == ["2"]
    publisher.retry()
    assert tables.tails["1"].latest == Offset(200, 0)
