"""A removed shape cannot be read or written; other shapes are not affected."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.contract.shape_log.conftest import Harness
from tests.support.storage.shape_log_samples import append_whole, bodies, make_handle, make_transactions, walk

from pgshapes.errors import StorageError
from pgshapes.model.offset import AFTER_SNAPSHOT

Build = Callable[[int], Harness]


async def test_a_removed_shape_cannot_be_read_or_written(build: Build) -> None:
    harness = build(100)
    gone, kept = harness.store.create(make_handle(1)), harness.store.create(make_handle(2))
    transactions = make_transactions(1, 10)
    for log in (gone, kept):
        append_whole(log, transactions[:5])
        log.start_snapshot().finish(b"{}")
        harness.reader.read_log(make_handle(1), AFTER_SNAPSHOT, log.tail)

    await harness.store.remove([make_handle(1)])
    assert harness.store.get(make_handle(1)) is None
    with pytest.raises(StorageError):
        harness.reader.read_log(make_handle(1), AFTER_SNAPSHOT, gone.tail)
    with pytest.raises(StorageError):
        harness.reader.read_snapshot_chunk(make_handle(1), 0)
    with pytest.raises(StorageError):
        gone.append(transactions[5], ends_transaction=True)
    append_whole(kept, transactions[5:])
    expected = b",".join(entry.json for transaction in transactions for entry in transaction)
    assert bodies(walk(harness.reader, make_handle(2), AFTER_SNAPSHOT, kept.tail)) == expected
    await harness.store.empty_trash()
    await harness.store.sync()


async def test_what_was_never_written_can_be_removed(build: Build) -> None:
    harness = build(100)
    harness.store.create(make_handle(1))
    await harness.store.remove([make_handle(1), make_handle(2)])
    await harness.store.remove([make_handle(1)])
    await harness.store.remove([])
    assert harness.store.get(make_handle(1)) is None


async def test_syncing_what_is_not_there_is_no_error(build: Build) -> None:
    harness = build(100)
    await harness.store.sync()
    await harness.store.sync_shape(make_handle(1))
    log = harness.store.create(make_handle(1))
    append_whole(log, make_transactions(1, 3))
    await harness.store.remove([make_handle(1)])
    await harness.store.sync_shape(make_handle(1))
    await harness.store.sync()
