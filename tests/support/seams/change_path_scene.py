"""The change path with an owner's parts and file logs, without Postgres; and the changes of a few tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from tests.support.postgres.pgoutput_encoder import encode
from tests.support.seams.routing_samples import (
    OLD_SNAPSHOT,
    TYPES,
    announcement,
    column,
    definition,
    relation,
)

from pgshapes.model.lsn import Lsn
from pgshapes.model.offset import AFTER_SNAPSHOT
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RelationVersion, ResolvedShape
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner import change_path, removal
from pgshapes.owner.owner import Owner, Sources
from pgshapes.postgres.pgoutput_messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Identity,
    Insert,
    Message,
    Truncate,
    Tuple,
    Update,
)
from pgshapes.postgres.relation_sql import RelationStamp
from pgshapes.routing.assembler import TransactionAssembler
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Router
from pgshapes.shape_log.file_store.files import RealFiles
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.tables.tables import Tables
from pgshapes.where.clause import Clause, clause_from_sql

TYPES.update(numeric=1700, jsonb=3802, _text=1009, timestamptz=1184)
_COLUMNS: Final = (
    column("id", pk_index=0),
    column("title", "text"),
    column("grade"),
    column("price", "numeric"),
    column("doc", "jsonb"),
    column("tags", "_text")._replace(element_type_name="text", dims=1, collation="C"),
    column("made", "timestamptz"),
)
A: Final = relation(*_COLUMNS, oid=20010, name="a")
B: Final = relation(*_COLUMNS, oid=20011, name="b")
C: Final = relation(*_COLUMNS, oid=20012, name="c")
ROOT: Final = relation(*_COLUMNS, oid=20013, name="root", kind="p")
LEAF: Final = relation(*_COLUMNS[1:], _COLUMNS[0], oid=20014, name="root_1")
SHAPES: Final[dict[str, tuple[Relation, str | None, str]]] = {
    "a-all": (A, None, "default"),
    "a-full": (A, None, "full"),
    "a-grade": (A, "grade = 1", "default"),
    "a-in": (A, "grade IN (1, 2) AND price > 1.5", "default"),
    "a-price": (A, "price = 2.50", "default"),
    "a-null": (A, "doc IS NULL OR doc ->> 'x' = 'y'", "default"),
    "a-like": (A, "title ILIKE 'T%' AND made > '2020-01-01'", "default"),
    "a-tags": (A, "'x' = ANY (tags)", "default"),
    "a-two": (A, "'x' = ANY (tags) AND grade = 1", "full"),
    "b-all": (B, None, "default"),
    "b-grade": (B, "grade = 1", "default"),
    "b-like": (B, "title LIKE 'T%'", "default"),
    "c-all": (C, None, "default"),
    "c-grade": (C, "grade = 1", "default"),
    "r-all": (ROOT, None, "default"),
    "r-grade": (ROOT, "grade = 1", "default"),
}
HANDLES: Final = {name: f"{number:039d}" for number, name in enumerate(SHAPES, 1)}


def row(number: int, grade: int, title: str = "The", **others: str | None) -> Tuple:
    """A row of any of the tables but the leaf."""
    values: dict[str, str | None] = {
        "id": str(number), "title": title, "grade": str(grade), "price": "2.5", "doc": '{"x": "y"}',
        "tags": "{x,NULL}", "made": "2024-01-01 00:00:00+00", **others,
    }  # fmt: skip
    return tuple(values.values())


def leaf_row(number: int, grade: int) -> Tuple:
    """A row of the leaf, whose columns have another order."""
    return (*row(number, grade)[1:], str(number))


def update(oid: int, old: Tuple, new: Tuple) -> Update:
    """An update with the whole old row."""
    return Update(oid, Identity.FULL, old, new)


def transaction(lsn: Lsn, *messages: Message) -> list[bytes]:
    """The messages of a transaction as Postgres sends them."""
    return [*map(encode, (Begin(lsn, 0, lsn // 100), *messages, Commit(lsn, lsn + 50, 0)))]


def background(lsn: Lsn) -> list[bytes]:
    """Changes of all tables that continue."""
    tables = (A.oid, B.oid, C.oid)
    inserts = [Insert(oid, row(lsn, grade)) for oid in tables for grade in (1, 3)]
    return transaction(lsn, *inserts, Insert(LEAF.oid, leaf_row(lsn, 1)))


FIRST: Final = [
    *transaction(
        1000,
        *(announcement(table) for table in (A, B, C, LEAF)),
        *(Insert(oid, row(1, 1)) for oid in (A.oid, B.oid, C.oid)),
    ),
    *background(1100),
]
STRUCK: Final = transaction(
    2000,
    announcement(A),
    Insert(A.oid, row(2, 1)),
    update(A.oid, row(2, 1), (*row(2, 2)[:4], UNCHANGED, *row(2, 2)[5:])),
    update(A.oid, row(2, 2), row(3, 1, doc=None)),
    update(A.oid, row(3, 1, doc=None), row(3, 1, title="other", tags="{}")),
    Delete(A.oid, Identity.FULL, row(1, 1)),
    announcement(LEAF),
    Insert(LEAF.oid, leaf_row(5, 1)),
    update(LEAF.oid, leaf_row(5, 1), leaf_row(5, 2)),
    Truncate((C.oid,), False, False),
    Insert(A.oid, row(6, 1)),
)
"""The transaction in which something raises. It changes nothing of table B."""
LAST: Final = [*background(3000), *background(3100)]
END: Final = 3150
STRUCK_TABLES: Final = frozenset({A.oid, C.oid, ROOT.oid})


class FastFiles(RealFiles):
    """Files that are not synced, because that takes most of the time."""

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        return {}

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        return {}


@cache
def clause_of(name: str) -> Clause | None:
    """The clause of a shape."""
    table, where, _ = SHAPES[name]
    return None if where is None else clause_from_sql(where, table)


class Database:
    """The inspector: tables that do not change."""

    connections = 1

    async def visibility(self) -> SnapshotVisibility:
        return SnapshotVisibility(2**31, 2**31, (), 0)

    async def ancestors(self, oids: Collection[int]) -> dict[int, list[int]]:
        return {oid: [ROOT.oid] if oid == LEAF.oid else [] for oid in oids}

    async def stamps(self, oids: Collection[int], _: str, **__: object) -> dict[int, RelationStamp]:
        return {oid: RelationStamp("", "member") for oid in oids}

    async def relation_by_oid(self, _: int) -> None:
        return None

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

    def __init__(self, folder: Path) -> None:
        self.tables = Tables()
        self.store = FileShapeStore(folder, chunk_bytes=1000, files=FastFiles(str(folder)))
        self.reader = FileLogReader(folder)
        self.boundary = FlushBoundary(500)
        self.reconnects: list[str] = []
        database: Any = Database()
        given: Any = Buffer()
        publication: Any = type("Publication", (), {"name": "p"})
        self.router = Router(DeliveredTransactions())
        self.owner = Owner(
            self.tables, self.store, given, Sources(database, publication, database), self.router,
            self.boundary, on_progress=lambda: None, reconnect=self.reconnects.append,
        )  # fmt: skip
        self.path = self.owner.change_path
        self.is_paused = False
        for name in SHAPES:
            self._add(name)
        self.path.connected(self)

    def _add(self, name: str) -> None:
        handle, (table, where, replica) = HANDLES[name], SHAPES[name]
        made = definition(table, None, where, replica)
        version = RelationVersion(table.oid, table.schema, table.name, table.generation)
        status = self.owner.status
        status.add_shape(handle, ResolvedShape(made, handle.encode(), (version,), b"{}"), [table])
        self.store.create(handle)
        leaves = [LEAF.oid] if table is ROOT else []
        self.router.register(handle, table, made, clause_of(name), leaves=leaves)
        self.owner.creator.memberships[handle] = {table.oid: "member"}
        self.owner.publisher.publish(self.router.release(handle, OLD_SNAPSHOT))
        status.activate(handle)

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

    async def feed(self, messages: Iterable[bytes]) -> Exception | None:
        """Let the path process these messages. Returns the error after which the stream must begin again."""
        for message in messages:
            await _until(lambda: not self.is_paused or bool(self.reconnects))
            if self.reconnects or self.is_paused:
                return RuntimeError(*self.reconnects, f"paused: {self.is_paused}")
            try:
                self.path.on_message(message, _position_of(message))
            except Exception as error:
                return error
        return await self.settle()

    async def settle(self) -> Exception | None:
        """Wait until nothing is being done."""
        await _until(lambda: bool(self.reconnects) or not (self.is_paused or self.owner._tasks))
        return RuntimeError(*self.reconnects) if self.reconnects or self.is_paused else None

    async def everything_acknowledged(self) -> bool:
        """Whether all that was sent can be acknowledged now, or soon."""
        await _until(lambda: self.boundary.acknowledgeable() == END)
        return self.boundary.acknowledgeable() == END

    async def outcome(self) -> dict[str, str | None]:
        """By shape what a client reads, None if the shape has ended."""
        return {name: await self._read(handle) for name, handle in HANDLES.items()}

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


def _position_of(message: bytes) -> Lsn:
    """The position with which Postgres sends a message: of a COMMIT, its end."""
    return int.from_bytes(message[10:18], "big") if message[:1] == b"C" else 0


async def _until(happened: Callable[[], bool]) -> None:
    """Wait for it, but not for long: it may not happen."""
    for turn in range(600):
        if happened():
            return
        await asyncio.sleep(0 if turn < 300 else 0.001)


def use_small_fragments() -> None:
    """Split transactions after three changes, and retry at once."""
    given: Any = change_path
    given.TransactionAssembler = partial(TransactionAssembler, max_changes=3)
    given._DISK_RETRY_S = removal._RETRY_S = 0.001
