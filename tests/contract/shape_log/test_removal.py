"""A removed shape is gone for readers and writers; nobody else notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.contract.shape_log.conftest import House
from tests.support.storage.shape_log_samples import append_whole, bodies, make_handle, make_transactions, walk

from pgshapes.errors import StorageError
from pgshapes.model.offset import AFTER_SNAPSHOT

Build = Callable[[int], House]


async def test_a_removed_shape_cannot_be_read_or_written(build: Build) -> None:
    house = build(100)
    gone, kept = house.store.create(make_handle(1)), house.store.create(make_handle(2))
    transactions = make_transactions(1, 10)
    for log in (gone, kept):
        append_whole(log, transactions[:5])
        log.start_snapshot().finish(b"{}")
        house.reader.read_log(make_handle(1), AFTER_SNAPSHOT, log.tail)

    await house.store.remove([make_handle(1)])
    assert house.store.get(make_handle(1)) is None
    with pytest.raises(StorageError):
        house.reader.read_log(make_handle(1), AFTER_SNAPSHOT, gone.tail)
    with pytest.raises(StorageError):
        house.reader.read_snapshot_chunk(make_handle(1), 0)
    with pytest.raises(StorageError):
        gone.append(transactions[5], ends_transaction=True)
    append_whole(kept, transactions[5:])
    expected = b",".join(entry.json for transaction in transactions for entry in transaction)
    assert bodies(walk(house.reader, make_handle(2), AFTER_SNAPSHOT, kept.tail)) == expected
    await house.store.empty_trash()
    await house.store.sync()


async def test_what_was_never_written_can_be_removed(build: Build) -> None:
    house = build(100)
    house.store.create(make_handle(1))
    await house.store.remove([make_handle(1), make_handle(2)])
    await house.store.remove([make_handle(1)])
    await house.store.remove([])
    assert house.store.get(make_handle(1)) is None


async def test_syncing_what_is_not_there_is_no_error(build: Build) -> None:
    house = build(100)
    await house.store.sync()
    await house.store.sync_shape(make_handle(1))
    log = house.store.create(make_handle(1))
    append_whole(log, make_transactions(1, 3))
    await house.store.remove([make_handle(1)])
    await house.store.sync_shape(make_handle(1))
    await house.store.sync()
