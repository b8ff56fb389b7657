"""The change path with an owner's parts and file logs, without Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.support.seams.change_path_samples import (
    END,
    LEAF,
    LISTED,
    MEMBERSHIPS,
    ROOT,
    SHAPES,
    Sample,
    clause_of,
    handles_of,
)
from tests.support.seams.routing_samples import OLD_SNAPSHOT, definition

from pgshapes.model.change import LARGE_CHARACTERS, Row
from pgshapes.model.offset import AFTER_SNAPSHOT
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RelationVersion, ResolvedShape
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner import change_path, removal
from pgshapes.owner.owner import Owner, Sources
from pgshapes.postgres.relation_sql import RelationStamp
from pgshapes.routing import clause_groups, routed_shape
from pgshapes.routing.assembler import TransactionAssembler
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.metering import Meter
from pgshapes.routing.router import Router
from pgshapes.shape_log.file_store.files import RealFiles
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.tables.tables import Tables
from pgshapes.where.clause import Clause, Predicate

NEW_SNAPSHOT: Final = SnapshotVisibility(2**31, 2**31, (), 2500)
"""A snapshot that sees all transactions."""


class FastFiles(RealFiles):
    """Files that are not synced, because that takes long. The disk is full for `full_for` writes."""

    full_for = 0

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        if self.full_for:
            self.full_for -= 1
            raise OSError(errno.ENOSPC, "full on purpose")
        super().write_at(descriptor, data, position)

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        return {}

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        return {}


class Time:
    """The clocks of the meter: what is evaluated takes as long as a test says, and each reading a little."""

    READING_S = 0.004

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        """As time.monotonic."""
        self.now += self.READING_S
        return self.now

    def processor_clock(self) -> float:
        """As time.thread_time."""
        return self.now


class SlowClause:
    """A clause that takes as long as a test says."""

    def __init__(self, clause: Clause, takes_s: Callable[[Row], float], time: Time) -> None:
        self.columns, self.sql = clause.columns, clause.sql
        self._clause, self._takes_s, self._time = clause, takes_s, time

    def compile(self, table: Relation) -> Predicate:
        """As `Clause.compile`."""
        predicate = copy(self._clause.compile(table))
        matches, takes_s, time = predicate.matches, self._takes_s, self._time

        def timed(row: Row) -> bool:
            time.now += takes_s(row)
            return matches(row)

        predicate.matches = timed
        return predicate


class Database:
    """The inspector: tables that do not change unless a test puts them into `changed`."""

    connections = 1

    def __init__(self) -> None:
        self.changed: dict[int, Relation] = {}
        self.late = 0
        """How many of the next snapshots do not see the transaction."""
        self.slow_s = 0.0

    async def visibility(self) -> SnapshotVisibility:
        if self.late:
            self.late -= 1
            return OLD_SNAPSHOT
        return NEW_SNAPSHOT._replace(insert_lsn=0)

    async def ancestors(self, oids: Collection[int]) -> dict[int, list[int]]:
        return {oid: [ROOT.oid] if oid == LEAF.oid else [] for oid in oids}

    async def stamps(self, oids: Collection[int], _: str, **__: object) -> dict[int, RelationStamp]:
        await asyncio.sleep(self.slow_s)
        return {
            oid: RelationStamp(
                self.changed[oid].stamp if oid in self.changed else "", MEMBERSHIPS.get(oid, LISTED)
            )
            for oid in oids
        }

    async def relation_by_oid(self, oid: int) -> Relation | None:
        return self.changed.get(oid)

    def clean(self, _: int | None) -> None:
        pass


class Buffer:
    """The write buffer, which forgets."""

    def put(self, *_: object) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Scene:
    """The owner with its shapes, and the stream. Call `close` at the end."""

    heard_at = 0.0
    is_doubtful = False

    def __init__(self, folder: Path, shapes: Mapping[str, Sample] = SHAPES) -> None:
        self.shapes = shapes
        self.handles = handles_of(shapes)
        self.time = Time()
        self.files = FastFiles(str(folder))
        self.database = Database()
        self.position = 0
        self.tables = Tables()
        self.store = FileShapeStore(folder, chunk_bytes=1000, files=self.files)
        self.reader = FileLogReader(folder)
        self.boundary = FlushBoundary(500)
        self.reconnects: list[str] = []
        database: Any = self.database
        given: Any = Buffer()
        publication: Any = type("Publication", (), {"name": "p"})
        meter = Meter(clock=self.time.clock, processor_clock=self.time.processor_clock)
        self.router = Router(DeliveredTransactions(), meter=meter)
        self.owner = Owner(
            self.tables, self.store, given, Sources(database, publication, database), self.router,
            self.boundary, on_progress=lambda: None, reconnect=self.reconnects.append,
        )  # fmt: skip
        self.path = self.owner.change_path
        self.is_paused = False
        self._threads = WatchedThreads()
        asyncio.get_running_loop().set_default_executor(self._threads)
        for name in shapes:
            self._add(name)
            if not shapes[name].is_late:
                self.release(name)
        self.path.connected(self)

    def _add(self, name: str) -> None:
        handle, sample = self.handles[name], self.shapes[name]
        table = sample.table
        made = definition(table, sample.columns, sample.where, sample.replica)
        version = RelationVersion(table.oid, table.schema, table.name, table.generation)
        self.owner.status.add_shape(handle, ResolvedShape(made, handle.encode(), (version,), b"{}"), [table])
        self.store.create(handle)
        clause: Any = clause_of(sample)
        if sample.takes_s is not None:
            clause = SlowClause(clause, sample.takes_s, self.time)
        self.router.register(handle, table, made, clause, leaves=[LEAF.oid] if table.kind == "p" else [])

    def release(self, name: str) -> None:
        """Give a shape its snapshot, unless it has ended."""
        handle, sample = self.handles[name], self.shapes[name]
        if self._is_creating(handle):
            oid = sample.table.oid
            self.owner.creator.memberships[handle] = {oid: MEMBERSHIPS.get(oid, LISTED)}
            snapshot = OLD_SNAPSHOT._replace(insert_lsn=sample.insert_lsn)
            if not self.router.is_complete(handle, snapshot, ()):
                snapshot = NEW_SNAPSHOT
                assert self.router.is_complete(handle, snapshot, ())
            self.owner.publisher.publish(self.router.release(handle, snapshot))
        if self._is_creating(handle):
            self.owner.status.activate(handle)

    def _is_creating(self, handle: str) -> bool:
        row = self.tables.shapes.get(handle)
        return handle in self.router and row is not None and row.state is ShapeState.CREATING

    def pause(self) -> None:
        """As the stream does."""
        self.is_paused = True

    def resume(self) -> None:
        """As the stream does."""
        self.is_paused = False

    def reconnect(self) -> None:
        """A new stream."""
        self.is_paused = False
        self.reconnects.clear()
        self.path.connected(self)

    async def feed(self, messages: Iterable[bytes | Step]) -> Exception | None:
        """Let the path process these messages, and take the steps between them. Returns the error after which
        the stream must begin again.
        """
        for message in messages:
            await self._until(lambda: not self.is_paused or bool(self.reconnects))
            if self.reconnects or self.is_paused:
                return RuntimeError(*self.reconnects, f"paused: {self.is_paused}")
            self.position += 1
            try:
                if isinstance(message, bytes):
                    self.path.on_message(message, _position_of(message) or self.position)
                else:
                    message(self)
            except Exception as error:
                return error
        return await self.settle()

    async def settle(self) -> Exception | None:
        """Wait until nothing is being done."""
        await self._until(lambda: bool(self.reconnects) or not (self.is_paused or self.owner._tasks))
        return RuntimeError(*self.reconnects) if self.reconnects or self.is_paused else None

    async def everything_acknowledged(self) -> bool:
        """Whether all that was sent can be acknowledged now, or soon."""
        await self._until(lambda: self.boundary.acknowledgeable() == END)
        return self.boundary.acknowledgeable() == END

    async def _until(self, happened: Callable[[], bool]) -> None:
        await _until(happened, self._threads)

    async def outcome(self) -> dict[str, str | None]:
        """By shape what a client reads, None if the shape has ended."""
        return {name: await self._read(handle) for name, handle in self.handles.items()}

    async def _read(self, handle: str) -> str | None:
        state, tail = self.tables.shapes.get(handle), self.tables.tails.get(handle)
        if state is None or not state.state.is_live or tail is None:
            return None
        body, after = b"", AFTER_SNAPSHOT
        while after != tail.latest:
            piece = await self.reader.read_log(handle, after, tail)
            body, after = body + b"," + piece.body, piece.end
        return body.decode()

    async def close(self) -> None:
        """End all tasks and close the files."""
        with contextlib.suppress(Exception):
            await self.owner.close()
        await self.store.close()
        self._threads.shutdown()


def _position_of(message: bytes) -> int:
    """The position with which Postgres sends a message: of a COMMIT, its end."""
    return int.from_bytes(message[10:18], "big") if message[:1] == b"C" else 0


class WatchedThreads(ThreadPoolExecutor):
    """The threads of a loop, which know whether they work."""

    def __init__(self) -> None:
        super().__init__()
        self._handed: list[Future[Any]] = []

    def submit(self, *work: Any, **more: Any) -> Future[Any]:
        """As any executor."""
        future = super().submit(*work, **more)
        self._handed.append(future)
        return future

    def are_working(self) -> bool:
        """Whether anything that was handed to them is not done."""
        self._handed = [one for one in self._handed if not one.done()]
        return bool(self._handed)


TURNS: Final = 250


async def _until(happened: Callable[[], bool], threads: WatchedThreads) -> None:
    """Wait for it, but not for many turns of the loop: it may not happen. Turns in which a thread works do
    not count, because how long one takes is up to the machine.
    """
    turn = 0
    while turn < TURNS and not happened():
        await asyncio.sleep(0 if turn < 50 else 0.002)
        turn += not threads.are_working()


def use_small_limits() -> None:
    """Split transactions after 3 changes, look at the clock after each clause, buffer little, retry soon."""
    given: Any = change_path
    given.TransactionAssembler = partial(TransactionAssembler, max_changes=3)
    for module, constant, value in (
        (clause_groups, "BATCH_NS", 1.0),
        (routed_shape, "BUFFER_LIMIT_BYTES", LARGE_CHARACTERS),
        (change_path, "_VISIBLE_TIMEOUT_S", 0.0),
        (change_path, "_DISK_RETRY_S", 0.001),
        (removal, "_RETRY_S", 0.001),
    ):
        assert hasattr(module, constant), constant
        setattr(module, constant, value)


Step = Callable[[Scene], None]
"""What happens between two messages."""
