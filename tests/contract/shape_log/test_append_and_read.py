"""Appended messages are read exactly once from every offset, for all batch and chunk sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.contract.shape_log.conftest import Harness
from tests.support.storage.shape_log_samples import (
    append_in_pieces,
    append_whole,
    bodies,
    entries_of,
    make_handle,
    make_transactions,
    walk,
)

from pgshapes.errors import StorageError
from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, INFINITE_OP, Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import Entry, LogSlice

HANDLE = make_handle(1)
Build = Callable[[int], Harness]


def _places(entries: list[Entry]) -> list[Offset]:
    """Offsets to read from: of each message, between them, before and after them."""
    around = [Offset(tx, op + step) for (tx, op), _ in entries for step in (-1, 0, 1) if op + step >= 0]
    ends = [Offset(tx, INFINITE_OP) for (tx, _), _ in entries]
    return [BEFORE_ALL, Offset(0, 0), Offset(0, 7), AFTER_SNAPSHOT, *around, *ends]


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1000, 10**7])
def test_every_position_reads_each_message_once(build: Build, chunk_bytes: int) -> None:
    harness = build(chunk_bytes)
    log = harness.store.create(HANDLE)
    transactions = make_transactions(chunk_bytes, 40)
    append_whole(log, transactions)
    entries = entries_of(transactions)

    for after in _places(entries):
        expected = b",".join(entry.json for entry in entries if entry.offset > after)
        assert bodies(walk(harness.reader, HANDLE, after, log.tail)) == expected


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1000])
def test_chunks_end_with_the_message_that_reaches_the_threshold(build: Build, chunk_bytes: int) -> None:
    harness = build(chunk_bytes)
    log = harness.store.create(HANDLE)
    transactions = make_transactions(5, 40)
    append_whole(log, transactions)

    *closed, last = walk(harness.reader, HANDLE, AFTER_SNAPSHOT, log.tail)
    for piece in closed:
        assert piece.is_chunk_end
        messages = [entry for entry in entries_of(transactions) if entry.json in piece.body]
        assert sum(len(entry.json) for entry in messages) >= chunk_bytes
        assert sum(len(entry.json) for entry in messages[:-1]) < chunk_bytes
        assert messages[-1].offset == piece.end
    assert last.end == log.tail.latest
    assert last.is_chunk_end == (log.tail.last_chunk_bound == log.tail.latest)


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1000])
def test_the_files_do_not_depend_on_the_number_of_appends(build: Build, chunk_bytes: int) -> None:
    transactions = make_transactions(chunk_bytes, 60)
    whole, pieces = build(chunk_bytes), build(chunk_bytes)
    append_whole(whole.store.create(HANDLE), transactions)
    append_in_pieces(pieces.store.create(HANDLE), transactions, seed=chunk_bytes)

    logs = [harness.store.get(HANDLE) for harness in (whole, pieces)]
    assert logs[0] is not None and logs[1] is not None
    assert logs[0].tail == logs[1].tail
    slices = [walk(harness.reader, HANDLE, AFTER_SNAPSHOT, logs[0].tail) for harness in (whole, pieces)]
    assert slices[0] == slices[1]


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1000])
def test_a_reader_with_an_older_tail_sees_no_more_than_that(build: Build, chunk_bytes: int) -> None:
    harness = build(chunk_bytes)
    log = harness.store.create(HANDLE)
    transactions = make_transactions(2, 30)
    tails: list[Tail] = []
    for transaction in transactions:
        log.append(transaction, ends_transaction=True)
        tails.append(log.tail)

    for number, tail in enumerate(tails):
        expected = b",".join(entry.json for entry in entries_of(transactions[: number + 1]))
        assert bodies(walk(harness.reader, HANDLE, AFTER_SNAPSHOT, tail)) == expected
        before = tails[number - 1].latest if number else AFTER_SNAPSHOT
        news = bodies(walk(harness.reader, HANDLE, before, tail))
        assert news == b",".join(entry.json for entry in transactions[number])


def test_an_unfinished_transaction_is_not_in_the_tail(build: Build) -> None:
    harness = build(10)
    log = harness.store.create(HANDLE)
    first, second = make_transactions(3, 2)
    log.append(first, ends_transaction=True)
    tail = log.tail

    log.append(second, ends_transaction=False)
    assert log.tail == tail
    assert bodies(walk(harness.reader, HANDLE, AFTER_SNAPSHOT, log.tail)) == b",".join(e.json for e in first)

    log.append([], ends_transaction=True)
    assert log.tail.latest == second[-1].offset
    assert log.tail.last_chunk_bound == second[-1].offset
    news = bodies(walk(harness.reader, HANDLE, tail.latest, log.tail))
    assert news == b",".join(entry.json for entry in second)


def test_existing_entries_are_skipped(build: Build) -> None:
    harness = build(500)
    log = harness.store.create(HANDLE)
    transactions = make_transactions(4, 20)
    append_whole(log, transactions[:12])
    append_whole(log, transactions[5:])

    expected = b",".join(entry.json for entry in entries_of(transactions))
    assert bodies(walk(harness.reader, HANDLE, AFTER_SNAPSHOT, log.tail)) == expected


@pytest.mark.parametrize("appended_again_from", [0, 1, 2])
def test_an_unfinished_transaction_may_be_appended_again(build: Build, appended_again_from: int) -> None:
    harness = build(50)
    log = harness.store.create(HANDLE)
    transactions = [entries for entries in make_transactions(6, 40) if len(entries) > 2][:3]
    append_whole(log, transactions[:2])
    log.append(transactions[2][:2], ends_transaction=False)

    append_in_pieces(log, transactions[appended_again_from:], seed=1)
    expected = b",".join(entry.json for entry in entries_of(transactions))
    assert bodies(walk(harness.reader, HANDLE, AFTER_SNAPSHOT, log.tail)) == expected
    assert log.tail.latest == transactions[2][-1].offset


def test_appending_an_old_transaction_again_does_not_end_an_unfinished_one(build: Build) -> None:
    harness = build(50)
    log = harness.store.create(HANDLE)
    first, second = [entries for entries in make_transactions(6, 40) if len(entries) > 2][:2]
    log.append(first, ends_transaction=True)
    log.append(second[:2], ends_transaction=False)

    log.append(first[:2], ends_transaction=False)
    log.append([], ends_transaction=True)
    assert log.tail.latest == first[-1].offset
    log.append(second, ends_transaction=True)
    expected = b",".join(entry.json for entry in first + second)
    assert bodies(walk(harness.reader, HANDLE, AFTER_SNAPSHOT, log.tail)) == expected


def test_an_end_without_a_beginning_changes_nothing(build: Build) -> None:
    log = build(50).store.create(HANDLE)
    log.append([], ends_transaction=True)
    log.append([], ends_transaction=False)
    assert log.tail == Tail()


def test_offsets_must_increase(build: Build) -> None:
    log = build(50).store.create(HANDLE)
    entry = Entry(Offset(5, 2), b"{}")
    with pytest.raises(ValueError, match="offset"):
        log.append([entry, entry], ends_transaction=True)
    log.append([entry], ends_transaction=False)
    with pytest.raises(ValueError, match="transaction"):
        log.append([Entry(Offset(6, 0), b"{}")], ends_transaction=True)
    assert log.tail == Tail()


def test_an_empty_log_reads_as_nothing(build: Build) -> None:
    harness = build(50)
    log = harness.store.create(HANDLE)
    for after in (BEFORE_ALL, Offset(0, 3), AFTER_SNAPSHOT, Offset(9, 0)):
        assert harness.reader.read_log(HANDLE, after, log.tail) == LogSlice(b"", AFTER_SNAPSHOT, False)


def test_many_logs_with_few_descriptors(build: Build) -> None:
    harness = build(300)
    transactions = make_transactions(8, 20)
    logs = {make_handle(number): harness.store.create(make_handle(number)) for number in range(30)}
    for transaction in transactions:
        for log in logs.values():
            log.append(transaction, ends_transaction=True)
    expected = b",".join(entry.json for entry in entries_of(transactions))
    for handle, log in logs.items():
        assert bodies(walk(harness.reader, handle, AFTER_SNAPSHOT, log.tail)) == expected


@pytest.mark.parametrize(
    "handle", ["", "../../etc/passwd", "A" * 32, "a" * 31, "a" * 41, "é" * 32, "1" * 32 + "\n"]
)
def test_only_handles_become_paths(build: Build, handle: str) -> None:
    harness = build(50)
    with pytest.raises(ValueError, match="handle"):
        harness.store.create(handle)
    with pytest.raises(StorageError):
        harness.reader.read_log(handle, AFTER_SNAPSHOT, Tail(Offset(1, 0), position=(10, 0)))
    with pytest.raises(StorageError):
        harness.reader.read_snapshot_chunk(handle, 0)


def test_a_handle_is_never_used_twice(build: Build) -> None:
    harness = build(50)
    harness.store.create(HANDLE)
    with pytest.raises(ValueError, match="handle"):
        harness.store.create(HANDLE)


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_what_was_read(build: Callable[[int], Harness], seed: int) -> None:
    harness = build(300)
    log = harness.store.create(HANDLE)
    writer = log.start_snapshot()
    writer.add_rows([b'"%d"' % number for number in range(50)])
    writer.finish(b"{}")
    transactions = make_transactions(seed, 20)
    append_whole(log, transactions)
    for number in range(log.tail.snapshot_chunks):
        chunk = harness.reader.read_snapshot_chunk(HANDLE, number)
        assert harness.reader.snapshot_chunk_size(HANDLE, number) == len(chunk)
        assert harness.reader.read_part(HANDLE, number, 3, len(chunk) - 3) == chunk[3:]
    for entry in entries_of(transactions):
        found = harness.reader.read_log(HANDLE, entry.offset, log.tail)
        if len(found.body) > 2:
            part = harness.reader.read_part(HANDLE, None, found.position + 1, len(found.body) - 2)
            assert part == found.body[1:-1]
        assert found.size == len(found.body)
        assert harness.reader.read_log(HANDLE, entry.offset, log.tail, found.size) == found
        if found.size:
            assert harness.reader.read_log(HANDLE, entry.offset, log.tail, found.size - 1) == found._replace(
                body=b""
            )
