"""One test for each operation that must be durable: do it, cut the power, check."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.storage.forgetful_files import ForgetfulFiles, forget
from tests.support.storage.reading import Reading
from tests.support.storage.shape_log_samples import (
    Transaction,
    append_whole,
    bodies,
    entries_of,
    make_handle,
    make_transactions,
    walk,
)

from pgshapes.errors import StorageError, StorageShortage
from pgshapes.model.offset import AFTER_SNAPSHOT, Offset
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import Entry

ONE, OTHER = make_handle(1), make_handle(2)
ELSEWHERE = make_handle(1 << 127)
SEEDS = range(8)


class Machine:
    """A storage directory on a disk that loses what was not synced."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir()
        self.storage = self.root / "storage"
        self._durable = directory / "durable"

    def start(self, files: type[ForgetfulFiles] = ForgetfulFiles) -> FileShapeStore:
        """Open the store in a new process, after the previous one was killed."""
        return FileShapeStore(self.storage, chunk_bytes=1000, files=files(self.root, self._durable))

    def cut_power(self, seed: int, *, survival: float = 0.5) -> None:
        forget(self.root, self._durable, seed, survival=survival)

    def has(self, handle: str) -> bool:
        return (self.storage / "shapes" / handle[:2] / handle).exists()

    def holds(self, store: FileShapeStore, handle: str, transactions: list[Transaction]) -> bool:
        log = store.get(handle)
        assert log is not None
        expected = b",".join(entry.json for entry in entries_of(transactions))
        return (
            bodies(walk(Reading(FileLogReader(self.storage)), handle, AFTER_SNAPSHOT, log.tail)) == expected
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _snapshot(store: FileShapeStore, handle: str) -> None:
    writer = store.create(handle).start_snapshot()
    writer.add_rows([b"1" * 400, b"2" * 400, b"3" * 400, b"4" * 400])
    writer.finish(b"{}")


async def _make(store: FileShapeStore, handle: str) -> None:
    _snapshot(store, handle)
    await store.sync_shape(handle)


def _append(store: FileShapeStore, handle: str, transactions: list[Transaction]) -> None:
    log = store.get(handle)
    assert log is not None
    append_whole(log, transactions)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_shape_is_durable_after_its_sync_alone(machine: Machine, seed: int) -> None:
    store = machine.start()
    for handle in (ONE, OTHER, ELSEWHERE):
        _snapshot(store, handle)
    await store.sync_shape(OTHER)
    machine.cut_power(seed)
    assert OTHER in machine.start().recover([OTHER], 0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("is_at_once", [False, True])
async def test_a_new_directory_is_durable_though_others_were_synced_first(
    machine: Machine, seed: int, is_at_once: bool
) -> None:
    """The sync of a shape in an old directory says nothing about a new one."""
    store = machine.start()
    await _make(store, ONE)
    if is_at_once:
        _snapshot(store, OTHER)
        first = asyncio.ensure_future(store.sync_shape(OTHER))
        await asyncio.sleep(0)
        _snapshot(store, ELSEWHERE)
        await first
    else:
        _snapshot(store, ELSEWHERE)
        await _make(store, OTHER)
    await store.sync_shape(ELSEWHERE)
    machine.cut_power(seed)
    assert ELSEWHERE in machine.start().recover([ELSEWHERE], 0)


@pytest.mark.parametrize("seed", SEEDS)
async def test_shapes_synced_together_are_all_durable(machine: Machine, seed: int) -> None:
    store = machine.start()
    handles = [ONE, OTHER, ELSEWHERE]
    for handle in handles:
        _snapshot(store, handle)
    await asyncio.gather(*(store.sync_shape(handle) for handle in handles))
    machine.cut_power(seed)
    assert set(machine.start().recover(handles, 0)) == set(handles)


@pytest.mark.parametrize("seed", SEEDS)
async def test_appends_are_durable_after_a_sync(machine: Machine, seed: int) -> None:
    transactions = make_transactions(seed, 30)
    store = machine.start()
    await _make(store, ONE)
    for start in range(0, 30, 10):
        _append(store, ONE, transactions[start : start + 10])
        await store.sync()
    machine.cut_power(seed)
    store = machine.start()
    store.recover([ONE], transactions[-1][0].offset.tx + 1)
    assert machine.holds(store, ONE, transactions)


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_end_that_comes_alone_is_durable_after_a_sync(machine: Machine, seed: int) -> None:
    (transaction,) = make_transactions(seed, 1)
    store = machine.start()
    await _make(store, ONE)
    log = store.get(ONE)
    assert log is not None
    log.append(transaction, ends_transaction=False)
    await store.sync()
    log.append([], ends_transaction=True)
    await store.sync()
    machine.cut_power(seed)
    store = machine.start()
    store.recover([ONE], transaction[0].offset.tx + 1)
    assert machine.holds(store, ONE, [transaction])


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_directory_left_by_a_killed_process_is_durable_with_its_next_shape(
    machine: Machine, seed: int
) -> None:
    _snapshot(machine.start(), ONE)
    store = machine.start()
    store.recover([], 0)
    await _make(store, OTHER)
    machine.cut_power(seed)
    assert OTHER in machine.start().recover([OTHER], 0)


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_a_killed_process_left_is_durable_after_recovery(machine: Machine, seed: int) -> None:
    transactions = make_transactions(seed, 5)
    store = machine.start()
    await _make(store, ONE)
    _append(store, ONE, transactions)

    store = machine.start()
    store.recover([ONE], transactions[0][0].offset.tx)
    _append(store, ONE, transactions)
    await store.sync()
    machine.cut_power(seed)
    store = machine.start()
    store.recover([ONE], transactions[-1][0].offset.tx + 1)
    assert machine.holds(store, ONE, transactions)


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_recovery_cuts_off_does_not_come_back(machine: Machine, seed: int) -> None:
    """A field that is divided by the end of a file, with zeros for its rest, has a value of its own: 300 is
    read as 256, which is below the recorded LSN, so it would have to be intact.
    """
    before, after = ([Entry(Offset(tx, 0), b'{"tx":%d}' % tx)] for tx in (257, 300))
    store = machine.start()
    await _make(store, ONE)
    _append(store, ONE, [before])
    await store.sync()
    machine.cut_power(seed)
    with (machine.storage / "shapes" / ONE[:2] / ONE / "log.index").open("ab") as index:
        index.write((300).to_bytes(8)[:7])

    store = machine.start()
    store.recover([ONE], 258)
    _append(store, ONE, [after])
    machine.cut_power(seed, survival=0)  # but the size of a file may
    assert ONE in machine.start().recover([ONE], 258)


@pytest.mark.parametrize("seed", SEEDS)
async def test_files_left_empty_by_a_killed_process_are_durable_with_their_next_content(
    machine: Machine, seed: int
) -> None:
    transactions = make_transactions(seed, 5)
    store = machine.start()
    await _make(store, ONE)
    log = store.get(ONE)
    assert log is not None
    log.append(transactions[0], ends_transaction=False)

    store = machine.start()
    store.recover([ONE], 0)
    _append(store, ONE, transactions)
    await store.sync()
    machine.cut_power(seed)
    store = machine.start()
    store.recover([ONE], transactions[-1][0].offset.tx + 1)
    assert machine.holds(store, ONE, transactions)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_removal_is_durable(machine: Machine, seed: int) -> None:
    store = machine.start()
    await _make(store, ONE)
    await _make(store, ELSEWHERE)
    await store.remove([ONE, ELSEWHERE])
    machine.cut_power(seed)
    assert not machine.has(ONE) and not machine.has(ELSEWHERE)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_removal_that_was_interrupted_is_durable_when_repeated(machine: Machine, seed: int) -> None:
    class Interrupted(ForgetfulFiles):
        def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
            if any(Path(path).name == ONE[:2] for path in paths):
                return {path: OSError(errno.EIO, "Input/output error") for path in paths}
            return super().sync_directories(paths)

    store = machine.start()
    await _make(store, ONE)
    store = machine.start(Interrupted)
    store.recover([ONE], 0)
    with pytest.raises(StorageError):
        await store.remove([ONE])
    store = machine.start()
    await store.remove([ONE])
    machine.cut_power(seed)
    assert not machine.has(ONE)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_lost_shape_is_removed_durably(machine: Machine, seed: int) -> None:
    store = machine.start()
    await _make(store, ONE)
    (machine.storage / "shapes" / ONE[:2] / ONE / "snapshot.1").unlink()
    assert machine.start().recover([ONE], 0) == {}
    machine.cut_power(seed)
    assert not machine.has(ONE)


class SlowFiles(ForgetfulFiles):
    """Blocks a sync after the content is durable, until it is released."""

    reached = threading.Event()
    go_on = threading.Event()

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        failed = super().sync_files(paths)
        self.reached.set()
        self.go_on.wait()
        return failed


async def test_what_is_appended_during_a_sync_belongs_to_the_next(machine: Machine) -> None:
    transactions = make_transactions(1, 2)
    store = machine.start()
    await _make(store, ONE)
    store.close_files()
    SlowFiles.reached.clear()
    SlowFiles.go_on.set()
    store = machine.start(SlowFiles)
    store.recover([ONE], 0)
    SlowFiles.go_on.clear()
    SlowFiles.reached.clear()

    _append(store, ONE, transactions[:1])
    first = asyncio.create_task(store.sync())
    await asyncio.to_thread(SlowFiles.reached.wait)
    _append(store, ONE, transactions[1:])
    second, third = asyncio.create_task(store.sync()), asyncio.create_task(store.sync_shape(ONE))
    await asyncio.sleep(0)
    third.cancel()
    assert not first.done()
    SlowFiles.go_on.set()
    await asyncio.gather(first, second)
    machine.cut_power(1)
    store = machine.start()
    store.recover([ONE], transactions[-1][0].offset.tx + 1)
    assert machine.holds(store, ONE, transactions)


async def test_a_sync_waits_for_a_running_one_with_its_writes(machine: Machine) -> None:
    SlowFiles.go_on.set()
    store = machine.start(SlowFiles)
    _snapshot(store, ONE)
    SlowFiles.go_on.clear()
    SlowFiles.reached.clear()
    first = asyncio.create_task(store.sync())
    await asyncio.to_thread(SlowFiles.reached.wait)
    second = asyncio.create_task(store.sync_shape(ONE))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    SlowFiles.go_on.set()
    await asyncio.gather(first, second)


class CountingFiles(ForgetfulFiles):
    """Records the shapes whose files each sync includes."""

    syncs: list[set[str]]

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        self.syncs.append({Path(path).parent.name for path in paths})
        return super().sync_files(paths)


async def test_one_request_for_all_makes_a_sync_one_of_all(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[set[str]] = []
    monkeypatch.setattr(CountingFiles, "syncs", syncs, raising=False)
    store = machine.start(CountingFiles)
    for handle in (ONE, OTHER, ELSEWHERE):
        _snapshot(store, handle)
    await asyncio.gather(store.sync_shape(ONE), store.sync())
    assert syncs == [{ONE, OTHER, ELSEWHERE}]


class FailingFiles(ForgetfulFiles):
    """Fails to sync paths with a name in `failing`."""

    failing: frozenset[str] = frozenset()
    code = errno.EIO

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        return self._failed(paths) | super().sync_files(self._others(paths))

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        return self._failed(paths) | super().sync_directories(self._others(paths))

    def _failed(self, paths: Sequence[str]) -> dict[str, OSError]:
        return {path: OSError(self.code, os.strerror(self.code)) for path in paths if self._fails(path)}

    def _others(self, paths: Sequence[str]) -> list[str]:
        return [path for path in paths if not self._fails(path)]

    def _fails(self, path: str) -> bool:
        return not self.failing.isdisjoint(Path(path).parts)


async def test_a_sync_without_descriptors_is_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions = make_transactions(1, 4)
    store = machine.start(FailingFiles)
    await _make(store, ONE)
    monkeypatch.setattr(FailingFiles, "failing", frozenset([ONE, OTHER]))
    monkeypatch.setattr(FailingFiles, "code", errno.EMFILE)
    _append(store, ONE, transactions[:2])
    _snapshot(store, OTHER)
    for _ in range(2):
        with pytest.raises(StorageShortage):
            await store.sync()
    monkeypatch.setattr(FailingFiles, "failing", frozenset())
    await store.sync()
    machine.cut_power(1)
    store = machine.start()
    assert store.recover([ONE, OTHER], transactions[1][0].offset.tx + 1).keys() == {ONE, OTHER}
    assert machine.holds(store, ONE, transactions[:2])


async def test_a_shape_that_could_not_be_synced_holds_back_every_acknowledgement(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions = make_transactions(1, 4)
    store = machine.start(FailingFiles)
    await _make(store, ONE)
    await _make(store, OTHER)
    for handle in (ONE, OTHER):
        _append(store, handle, transactions[:2])
    monkeypatch.setattr(FailingFiles, "failing", frozenset([ONE]))
    with pytest.raises(StorageError) as caught:
        await store.sync()
    assert caught.value.details == {"handles": [ONE]}
    monkeypatch.setattr(FailingFiles, "failing", frozenset())

    with pytest.raises(StorageError):
        await store.sync()
    with pytest.raises(StorageError):
        await store.sync_shape(ONE)
    with pytest.raises(StorageError):
        _append(store, ONE, transactions[2:])
    await store.sync_shape(OTHER)
    await store.remove([ONE])
    await store.sync()
    machine.cut_power(1)
    store = machine.start()
    store.recover([OTHER], transactions[1][0].offset.tx + 1)
    assert machine.holds(store, OTHER, transactions[:2])


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_shared_directory_that_could_not_be_synced_is_synced_for_the_next(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    class NoShapes(FailingFiles):
        def _fails(self, path: str) -> bool:
            return Path(path).name in self.failing

    store = machine.start(NoShapes)
    monkeypatch.setattr(NoShapes, "failing", frozenset(["shapes"]))
    _snapshot(store, ONE)
    with pytest.raises(StorageError):
        await store.sync_shape(ONE)
    monkeypatch.setattr(NoShapes, "failing", frozenset())
    await _make(store, OTHER)
    machine.cut_power(seed)
    assert OTHER in machine.start().recover([OTHER], 0)


@pytest.mark.parametrize("failing", ["storage", "shapes"])
def test_a_storage_directory_that_cannot_be_made_durable_is_not_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(FailingFiles, "failing", frozenset([failing]))
    with pytest.raises(StorageError):
        machine.start(FailingFiles)
