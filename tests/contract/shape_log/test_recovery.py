"""Recovery keeps a prefix that ends a transaction; a replay then results in the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.storage.forgetful_files import ForgetfulFiles
from tests.support.storage.reading import Reading
from tests.support.storage.shape_log_samples import (
    Transaction,
    append_in_pieces,
    append_whole,
    bodies,
    entries_of,
    make_handle,
    make_transactions,
    walk,
)

from pgshapes.model.offset import AFTER_SNAPSHOT, Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.file_store.files import RealFiles
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import Entry

HANDLE = make_handle(1)
CHUNK_BYTES = 300
ALL = 2**62

Open = Callable[..., FileShapeStore]


@pytest.fixture(params=["files", "forgetful"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same storage as a new process would."""
    root = tmp_path / "root"
    root.mkdir()

    def open_store(chunk_bytes: int = CHUNK_BYTES) -> FileShapeStore:
        forgetful = request.param == "forgetful"
        files = ForgetfulFiles(root, tmp_path / "durable") if forgetful else RealFiles(str(root))
        return FileShapeStore(root / "storage", chunk_bytes=chunk_bytes, files=files, max_open_files=8)

    return open_store


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "root" / "storage"


def _directory(storage: Path, handle: str = HANDLE) -> Path:
    return storage / "shapes" / handle[:2] / handle


def _files(storage: Path, handle: str = HANDLE) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _directory(storage, handle).iterdir()}


def _write(store: FileShapeStore, transactions: list[Transaction], handle: str = HANDLE) -> Tail:
    log = store.create(handle)
    writer = log.start_snapshot()
    writer.add_rows([b'{"id":%d}' % number for number in range(100)])
    writer.finish(b'{"end":1}')
    append_whole(log, transactions)
    tail = log.tail
    store.close_files()
    return tail


def _read(storage: Path, tail: Tail) -> bytes:
    return bodies(walk(Reading(FileLogReader(storage)), HANDLE, AFTER_SNAPSHOT, tail))


def _joined(transactions: list[Transaction]) -> bytes:
    return b",".join(entry.json for entry in entries_of(transactions))


@pytest.mark.parametrize("chunk_bytes", [1, 300, 10**7])
@pytest.mark.parametrize("recorded", [0, 120, ALL])
@pytest.mark.parametrize("count", [1, 40, 2000])
def test_a_whole_log_is_found_as_it_was(reopen: Open, chunk_bytes: int, recorded: int, count: int) -> None:
    tail = _write(reopen(chunk_bytes), make_transactions(1, count))
    store = reopen(chunk_bytes)
    log = store.recover({HANDLE: True}, recorded)[HANDLE]
    assert log.tail == tail
    assert store.get(HANDLE) is log


@pytest.mark.parametrize("chunk_bytes", [1, 300, 10**7])
def test_a_recovered_log_can_be_appended_to(
    reopen: Open, storage: Path, tmp_path: Path, chunk_bytes: int
) -> None:
    transactions = make_transactions(2, 60)
    _write(reopen(chunk_bytes), transactions[:20])
    for start, recorded in ((20, 0), (40, 110), (60, ALL)):
        store = reopen(chunk_bytes)
        log = store.recover([HANDLE], recorded)[HANDLE]
        append_in_pieces(log, transactions[:start], seed=start)
        append_in_pieces(log, transactions[start : start + 20], seed=start)
        tail = log.tail
        store.close_files()
    assert _read(storage, tail) == _joined(transactions)
    _assert_same_files(storage, tmp_path, transactions, chunk_bytes)


def _assert_same_files(
    storage: Path, tmp_path: Path, transactions: list[Transaction], chunk_bytes: int = CHUNK_BYTES
) -> None:
    untroubled = tmp_path / "untroubled"
    if not untroubled.exists():
        _write(FileShapeStore(untroubled, chunk_bytes=chunk_bytes), transactions)
    assert _files(storage) == _files(untroubled)


@pytest.mark.parametrize("name", ["log", "log.index"])
def test_half_written_files(reopen: Open, storage: Path, tmp_path: Path, name: str) -> None:
    transactions = make_transactions(3, 6, max_size=20)
    _write(reopen(), transactions)
    whole = _files(storage)
    path = _directory(storage) / name
    ends = [0, *(entries[-1].offset.tx for entries in transactions)]
    for size in range(0, len(whole[name]), 3):
        path.write_bytes(whole[name][:size])
        store = reopen()
        log = store.recover([HANDLE], 0)[HANDLE]
        kept = [entries for entries in transactions if entries[-1].offset <= log.tail.latest]
        assert log.tail.latest.tx in ends
        assert _joined(kept) == _read(storage, log.tail)
        append_whole(log, transactions)
        store.close_files()
        _assert_same_files(storage, tmp_path, transactions)


@pytest.mark.parametrize("name", ["log", "log.index"])
def test_garbage_past_the_recorded_lsn_is_truncated(
    reopen: Open, storage: Path, tmp_path: Path, name: str
) -> None:
    transactions = make_transactions(4, 8, max_size=20)
    recorded = transactions[3][0].offset.tx
    _write(reopen(), transactions)
    whole = _files(storage)
    first_unsure = sum(len(entries) for entries in transactions[:3])
    start = first_unsure * 40 if name == "log.index" else len(_joined(transactions[:3])) + 1
    for place in range(start, len(whole[name]), 3):
        damaged = bytearray(whole[name])
        damaged[place] ^= 0x55
        (_directory(storage) / name).write_bytes(damaged)
        store = reopen()
        found = store.recover([HANDLE], recorded)
        if HANDLE in found:
            log = found[HANDLE]
            assert log.tail.latest >= transactions[2][-1].offset
            append_whole(log, transactions)
            store.close_files()
            _assert_same_files(storage, tmp_path, transactions)
        else:
            assert name == "log.index" and place % 40 < 8, "it looked as if it had been durable"
            shutil.rmtree(tmp_path / "durable", ignore_errors=True)
            (_directory(storage)).mkdir()
            for file, content in whole.items():
                (_directory(storage) / file).write_bytes(content)


@pytest.mark.parametrize("tail_of_zeros", [40, 4096, 10_000])
def test_pages_that_were_not_written(reopen: Open, storage: Path, tmp_path: Path, tail_of_zeros: int) -> None:
    transactions = make_transactions(5, 300)
    recorded = transactions[100][0].offset.tx
    _write(reopen(), transactions)
    path = _directory(storage) / "log.index"
    data = path.read_bytes()
    durable = sum(len(entries) for entries in transactions[:100]) * 40
    size = min(tail_of_zeros, len(data) - durable)
    path.write_bytes(data[:durable] + bytes(size) + data[durable + size :])
    store = reopen()
    log = store.recover([HANDLE], recorded)[HANDLE]
    assert log.tail.latest == transactions[99][-1].offset
    append_whole(log, transactions[100:])
    store.close_files()
    _assert_same_files(storage, tmp_path, transactions)


def test_an_unfinished_transaction_is_truncated(reopen: Open, storage: Path, tmp_path: Path) -> None:
    transactions = [entries for entries in make_transactions(6, 60) if len(entries) > 2][:3]
    store = reopen(50)
    _write(store, transactions[:2])
    store = reopen(50)
    log = store.recover([HANDLE], 0)[HANDLE]
    before = log.tail
    log.append(transactions[2][:2], ends_transaction=False)
    store.close_files()

    store = reopen(50)
    log = store.recover([HANDLE], transactions[2][0].offset.tx)[HANDLE]
    assert log.tail == before
    append_whole(log, transactions)
    store.close_files()
    _assert_same_files(storage, tmp_path, transactions, 50)


def test_other_chunk_sizes_leave_closed_chunks_as_they_are(reopen: Open, storage: Path) -> None:
    transactions = make_transactions(7, 40)
    before = _write(reopen(200), transactions[:30])
    store = reopen(10**6)
    log = store.recover([HANDLE], ALL)[HANDLE]
    append_whole(log, transactions[30:])
    assert log.tail.last_chunk_bound == before.last_chunk_bound
    assert _read(storage, log.tail) == _joined(transactions)


def _damage_nothing(directory: Path) -> None:
    """A shape that is not damaged is recovered."""


def _drop_directory(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def _flip(name: str, place: int) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        data = bytearray((directory / name).read_bytes())
        data[place] ^= 0x55
        (directory / name).write_bytes(data)

    return damage


def _shorten(name: str, by: int) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data[:-by])

    return damage


def _drop(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


@pytest.mark.parametrize(
    ("damage", "is_lost"),
    [
        pytest.param(_damage_nothing, False, id="nothing"),
        pytest.param(_drop_directory, True, id="no directory"),
        pytest.param(_drop("snapshot.0"), True, id="no first chunk"),
        pytest.param(_drop("snapshot.2"), True, id="no middle chunk"),
        pytest.param(_drop("snapshot.3"), True, id="no last chunk"),
        pytest.param(_shorten("snapshot.3", 1), True, id="short last chunk"),
        pytest.param(_shorten("snapshot.1", 1), True, id="short chunk"),
        pytest.param(_shorten("snapshot.1", 10_000), True, id="empty chunk"),
        pytest.param(_flip("snapshot.0", 0), True, id="garbage at a chunk's start"),
        pytest.param(_drop("log"), True, id="no log"),
        pytest.param(_shorten("log", 1), True, id="short log"),
        pytest.param(_flip("log", -1), True, id="garbage at the log's end"),
        pytest.param(_flip("log", -10), True, id="garbage in the last message"),
        pytest.param(_flip("log.index", -1), True, id="wrong checksum"),
        pytest.param(_flip("log.index", -8), True, id="wrong flags"),
        pytest.param(_flip("log.index", -16), True, id="wrong length"),
        pytest.param(_flip("log.index", -20), True, id="wrong position"),
    ],
)
def test_damage_in_what_was_durable_loses_the_shape_alone(
    reopen: Open, storage: Path, damage: Callable[[Path], None], is_lost: bool
) -> None:
    transactions = make_transactions(8, 20)
    store = reopen()
    _write(store, transactions)
    store = reopen()
    store.recover([HANDLE], ALL)
    _write(store, transactions, make_handle(2))
    assert (_directory(storage) / "snapshot.3").exists() and not (_directory(storage) / "snapshot.4").exists()

    damage(_directory(storage))
    store = reopen()
    found = store.recover([HANDLE, make_handle(2)], ALL)
    assert (HANDLE not in found) == is_lost
    assert store.damage.keys() == ({HANDLE} if is_lost else set())
    assert all(type(reason) is str and reason for reason in store.damage.values())
    assert make_handle(2) in found
    assert _directory(storage).exists() != is_lost
    store.recover([make_handle(2)], ALL)
    assert store.damage == {}
    store.close_files()


def test_a_durable_record_found_after_damage_loses_the_shape(reopen: Open, storage: Path) -> None:
    transactions = make_transactions(9, 33)
    _write(reopen(), transactions)
    path = _directory(storage) / "log.index"
    data = bytearray(path.read_bytes())
    middle = len(data) // 40 // 2
    data[middle * 40 : middle * 40 + 40] = bytes(40)
    path.write_bytes(data)
    assert reopen().recover([HANDLE], ALL) == {}


async def test_shapes_that_are_not_live_are_removed(reopen: Open, storage: Path) -> None:
    _write(reopen(), make_transactions(1, 3))
    store = reopen()
    store.recover([HANDLE], 0)
    store.create(make_handle(7)).start_snapshot().add_rows([b"1"])
    store.close_files()

    store = reopen()
    assert list(store.recover([HANDLE], 0)) == [HANDLE]
    assert not _directory(storage, make_handle(7)).exists()
    assert store.get(make_handle(7)) is None
    await store.empty_trash()
    assert list((storage / "trash").iterdir()) == []
    assert list(store.recover([], 0)) == []
    assert not _directory(storage).exists()


def test_a_log_without_messages_is_found(reopen: Open) -> None:
    tail = _write(reopen(), [])
    store = reopen()
    log = store.recover([HANDLE], 50)[HANDLE]
    assert log.tail == tail == Tail(snapshot_chunks=4, is_snapshot_complete=True)
    log.append([Entry(Offset(60, 0), b"{}")], ends_transaction=True)
    assert log.tail.latest == Offset(60, 0)
    store.close_files()
