"""Random operations on a store, with power cuts, compared with a model of what must be durable.

The model acts as the owner: it records an LSN only after `sync`, a shape's row only after `sync_shape`, and
counts a shape as removed only after `remove`. After a power cut it compares the recovered store with this
state, then acts as Postgres and sends everything from the recorded LSN on again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.storage.forgetful_files import ForgetfulFiles, forget
from tests.support.storage.reading import Reading
from tests.support.storage.shape_log_samples import (
    Transaction,
    append_in_pieces,
    bodies,
    entries_of,
    make_handle,
    make_transactions,
    walk,
)

from pgshapes.model.offset import AFTER_SNAPSHOT
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import Entry

CHUNK_BYTES = 700
ROWS = [b'{"id":%d,"x":"%s"}' % (number, b"x" * 30) for number in range(60)]
END = b'{"end":true}'


class PowerCutError(Exception):
    """The power is off: every operation of the disk fails."""


class CuttableFiles(ForgetfulFiles):
    """Fails from its n-th operation on."""

    operations_left = 10**9

    def require_power(self) -> None:
        """Raise once an operation has failed."""
        if self.operations_left < 0:
            raise PowerCutError

    def _spend(self) -> None:
        self.operations_left -= 1
        self.require_power()

    def make_directory(self, path: str) -> bool:
        self._spend()
        return super().make_directory(path)

    def open(self, path: str) -> int:
        self._spend()
        return super().open(path)

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        self._spend()
        super().write_at(descriptor, data, position)

    def truncate(self, path: str, size: int) -> None:
        self._spend()
        super().truncate(path, size)

    def rename(self, old: str, new: str) -> None:
        self._spend()
        super().rename(old, new)

    def remove_tree(self, path: str) -> None:
        self._spend()
        super().remove_tree(path)

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        return self._sync_one_by_one(paths, super().sync_files)

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        return self._sync_one_by_one(paths, super().sync_directories)

    def _sync_one_by_one(
        self, paths: Sequence[str], sync: Callable[[Sequence[str]], dict[str, OSError]]
    ) -> dict[str, OSError]:
        failed: dict[str, OSError] = {}
        for path in paths:
            self._spend()
            failed.update(sync([path]))
        return failed


@dataclass
class Expected:
    """What must be durable."""

    recorded_lsn: int = 0
    rows: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    appended: dict[str, list[Transaction]] = field(default_factory=dict)
    """All transactions appended to each shape, finished or not."""


class Scenario:
    """One storage directory, many power cuts. All random choices depend on the seed."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.directory = directory
        self.root = directory / "root"
        self.root.mkdir(parents=True)
        self.storage = self.root / "storage"
        self.expected = Expected()
        self.transactions = iter(make_transactions(seed, 10_000))
        self.last_tx = 0
        self.next_handle = 0
        self.store = self._open()

    async def live(self, steps: int, operations: int) -> None:
        """Do `steps` random steps; the power fails after `operations` file operations."""
        self.files.operations_left = operations
        try:
            for _ in range(steps):
                await self._step()
        except PowerCutError:
            pass
        self.files.operations_left = 10**9
        self.store.close_files()

    def cut_power(self) -> None:
        """Lose what was not synced, restart, check, and replay."""
        forget(self.root, self.directory / "durable", self.chance.randrange(2**32))
        assert not self.expected.removed & self._on_disk(), "a removed shape stays removed"
        self.restart()

    def restart(self) -> None:
        """Restart, check, and replay, as after a kill of the process."""
        expected = self.expected
        self.store = self._open()
        found = self.store.recover(expected.rows, expected.recorded_lsn)
        assert set(found) == expected.rows, "a shape with a row is not lost"
        assert self._on_disk() == expected.rows, "a directory without a row is removed"
        for handle in expected.rows:
            self._check_prefix(handle)
        expected.appended = {handle: expected.appended[handle] for handle in expected.rows}
        self._catch_up()

    def _open(self) -> FileShapeStore:
        self.files = CuttableFiles(self.root, self.directory / "durable")
        self.reader = Reading(FileLogReader(self.storage))
        return FileShapeStore(self.storage, chunk_bytes=CHUNK_BYTES, files=self.files, max_open_files=6)

    async def _step(self) -> None:
        kind = self.chance.choices(
            ("append", "create", "sync", "remove", "trash"), weights=(50, 10, 12, 3, 3)
        )[0]
        await {
            "append": self._append,
            "create": self._create,
            "sync": self._sync,
            "remove": self._remove,
            "trash": self.store.empty_trash,
        }[kind]()

    async def _append(self) -> None:
        self.files.require_power()  # one of the creations beside may have been cut off within a transaction
        transaction = next(self.transactions)
        for handle, appended in self.expected.appended.items():
            if self.chance.random() < 0.6:
                appended.append(transaction)
                log = self.store.get(handle)
                assert log is not None
                append_in_pieces(log, [transaction], self.chance.randrange(1000))
        self.last_tx = transaction[0].offset.tx

    async def _create(self) -> None:
        """Some shapes at once: each begins, and is synced, while others are."""
        failed = await asyncio.gather(
            *(self._create_one() for _ in range(self.chance.randrange(1, 4))), return_exceptions=True
        )
        for error in filter(None, failed):
            raise error

    async def _create_one(self) -> None:
        self.next_handle += 1
        handle = make_handle(self.chance.choice((1, 2, self.next_handle)) << 120 | self.next_handle)
        log = self.store.create(handle)
        self.expected.appended[handle] = []
        writer = log.start_snapshot()
        for start in range(0, len(ROWS), 7):
            writer.add_rows(ROWS[start : start + 7])
        await asyncio.sleep(self.chance.choice((0, 0.001)))
        await self._append()
        writer.finish(END)
        await self._append()
        await self.store.sync_shape(handle)
        self.expected.rows.add(handle)

    async def _sync(self) -> None:
        lsn = self.last_tx + 1
        await self.store.sync()
        self.expected.recorded_lsn = lsn

    async def _remove(self) -> None:
        handles = self.chance.sample(sorted(self.expected.appended), min(len(self.expected.appended), 2))
        for handle in handles:
            del self.expected.appended[handle]
            self.expected.rows.discard(handle)
        await self.store.remove(handles)
        self.expected.removed.update(handles)

    def _on_disk(self) -> set[str]:
        return {path.name for path in (self.storage / "shapes").glob("*/*")}

    def _check_prefix(self, handle: str) -> None:
        log, appended = self.store.get(handle), self.expected.appended[handle]
        assert log is not None
        kept = [transaction for transaction in appended if transaction[-1].offset <= log.tail.latest]
        missing = appended[len(kept) :]
        assert all(transaction[0].offset.tx >= self.expected.recorded_lsn for transaction in missing)
        self._check_content(handle, kept)

    def _check_content(self, handle: str, transactions: list[Transaction]) -> None:
        log = self.store.get(handle)
        assert log is not None
        expected: list[Entry] = entries_of(transactions)
        assert log.tail.latest == (expected[-1].offset if expected else AFTER_SNAPSHOT)
        read = bodies(walk(self.reader, handle, AFTER_SNAPSHOT, log.tail))
        assert read == b",".join(entry.json for entry in expected)
        chunks = [self.reader.read_snapshot_chunk(handle, n) for n in range(log.tail.snapshot_chunks)]
        rows = b",".join(chunk[1:-1] for chunk in chunks)
        assert rows == b",".join([*ROWS, END])
        assert log.tail.is_snapshot_complete

    def _catch_up(self) -> None:
        """Append again what was not acknowledged."""
        for handle, appended in self.expected.appended.items():
            log = self.store.get(handle)
            assert log is not None
            again = [one for one in appended if one[0].offset.tx >= self.expected.recorded_lsn]
            append_in_pieces(log, again, self.chance.randrange(1000))
            self._check_content(handle, appended)
            self._check_files(handle, appended)

    def _check_files(self, handle: str, appended: list[Transaction]) -> None:
        """Compare with the files of a store without power cuts."""
        untroubled = FileShapeStore(self.directory / "untroubled", chunk_bytes=CHUNK_BYTES)
        log = untroubled.create(handle)
        for transaction in appended:
            log.append(transaction, ends_transaction=True)
        untroubled.close_files()
        for name in ("log", "log.index"):
            path = Path("shapes") / handle[:2] / handle / name
            expected = self.directory / "untroubled" / path
            if expected.exists():
                assert (self.storage / path).read_bytes() == expected.read_bytes()
