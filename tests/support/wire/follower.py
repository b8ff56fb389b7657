"""The owner, from the bytes of the stream to logs in files, without Postgres: it follows a `Wire`.

`Follower` lives as an instance does: `follow` is a session of it, `restart` a new process on its storage
directory. Only the system catalogs, the catalogue file and syncs are replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.seams.change_path_scene import Buffer, FastFiles
from tests.support.seams.routing_samples import OLD_SNAPSHOT, definition
from tests.support.wire.mutation import Sent
from tests.support.wire.recording import LEAVES, Recording
from tests.support.wire.wire import Wire

from pgshapes.model.offset import AFTER_SNAPSHOT
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RelationVersion, ResolvedShape
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue import StoredShape
from pgshapes.owner.durability import Durability
from pgshapes.owner.owner import Owner, Sources
from pgshapes.postgres.relation_sql import RelationStamp
from pgshapes.postgres.replication import ReplicationStream
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Router
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.tables.tables import Tables
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.where.clause import Clause, clause_from_sql

SHAPES: Final[tuple[tuple[str, str | None, str], ...]] = (
    ("bystander", None, "default"),
    ("bystander", "id > 0", "full"),
    ("typed", None, "full"),
    ("typed", "n > 1 AND t LIKE 't%' AND m = 'ok' AND ts > '2020-01-01'", "default"),
    ("typed", "i8 = 3000000000 OR u IS NULL OR 1 = ANY (ai)", "default"),
    ("stored", "n > 2", "default"),
    ("keyed", None, "default"),
    ("keyed", "a IN (1, 2, 3)", "full"),
    ("parted", None, "default"),
    ("parted", "part = 1", "default"),
    ("emptied", None, "default"),
)
"""Table, clause and replica mode."""
_ALL_SEEN: Final = (2**32 - 1, 2**32 - 1, (), 0)
_handles = (f"{number:039d}" for number in itertools.count(1))


@functools.cache
def _parsed(where: str, relation: Relation) -> Clause:
    return clause_from_sql(where, relation)


def _clause(recording: Recording, table: str, where: str | None, _: str) -> Clause | None:
    return None if where is None else _parsed(where, recording.relations[table])


class _SeesAll(SnapshotVisibility):
    """A snapshot that is newer than any transaction."""

    def sees_xid(self, xid: int) -> bool:
        return True


class _Database:
    """The inspector: the recorded tables, which do not change."""

    connections = 1

    def __init__(self, recording: Recording) -> None:
        relations = recording.relations.values()
        self._relations = {relation.oid: relation for relation in relations}
        self._root = recording.relations["parted"].oid
        self._leaves = [recording.relations[name].oid for name in LEAVES]

    async def visibility(self) -> SnapshotVisibility:
        return _SeesAll(*_ALL_SEEN)

    async def ancestors(self, oids: Collection[int]) -> dict[int, list[int]]:
        return {oid: [self._root] if oid in self._leaves else [] for oid in oids}

    async def leaves(self, oid: int) -> list[int]:
        return self._leaves if oid == self._root else []

    async def stamps(self, oids: Collection[int], _: str, **__: object) -> dict[int, RelationStamp]:
        known = self._relations.keys() & set(oids)
        return {oid: RelationStamp(self._relations[oid].stamp, "member") for oid in known}

    async def relation_by_oid(self, oid: int) -> Relation | None:
        return self._relations.get(oid)

    async def ensure_table(self, _: Relation) -> None:
        """As the publication does, which has the table."""

    def note_settled(self, _: object) -> None:
        """As the publication does."""

    async def drop_table(self, _: Relation, **__: object) -> bool:
        """As the publication does when a table has no shapes."""
        return True

    def clean(self, _: int | None) -> None:
        pass


class Ended(NamedTuple):
    """How a session ended."""

    error: BaseException | None
    reconnects: list[str]
    """Why the owner wanted another session."""
    is_stuck: bool
    wire: Wire


class Follower:
    """One instance. Call `close` at the end."""

    def __init__(self, folder: Path, recording: Recording, start_lsn: int) -> None:
        self._folder = folder
        self._recording = recording
        self._clauses = [_clause(recording, *shape) for shape in SHAPES]
        self.reconnects: list[str] = []
        self._start(start_lsn)
        for number in range(len(SHAPES)):
            self._add(number)

    def _start(self, recorded_lsn: int) -> None:
        database: Any = _Database(self._recording)
        database.name = "recorded"
        buffer: Any = Buffer()
        self.tables = Tables()
        self.store = FileShapeStore(self._folder, chunk_bytes=2000, files=FastFiles(str(self._folder)))
        self.reader = FileLogReader(self._folder)
        boundary, delivered = FlushBoundary(recorded_lsn), DeliveredTransactions()
        self.router = Router(delivered)
        self.durability = Durability(self.store, buffer, boundary, delivered, database.visibility)
        self.owner = Owner(
            self.tables, self.store, buffer, Sources(database, database, database), self.router, boundary,
            on_progress=self.durability.note_progress, reconnect=self.reconnects.append,
        )  # fmt: skip
        self.handles: dict[int, str] = {}

    def _resolved(self, number: int, handle: str) -> ResolvedShape:
        name, where, replica = SHAPES[number]
        relation = self._recording.relations[name]
        version = RelationVersion(relation.oid, relation.schema, relation.name, relation.generation)
        return ResolvedShape(definition(relation, None, where, replica), handle.encode(), (version,), b"{}")

    def _add(self, number: int) -> None:
        handle, relation = next(_handles), self._recording.relations[SHAPES[number][0]]
        resolved, status = self._resolved(number, handle), self.owner.status
        status.add_shape(handle, resolved, [relation])
        self.store.create(handle).start_snapshot().finish(b"{}")
        leaves = [self._recording.relations[name].oid for name in LEAVES]
        self.router.register(
            handle, relation, resolved.definition, self._clauses[number],
            leaves=leaves if relation.kind == "p" else (),
        )  # fmt: skip
        self.owner.creator.memberships[handle] = {relation.oid: "member"}
        self.owner.publisher.publish(self.router.release(handle, OLD_SNAPSHOT))
        status.activate(handle)
        self.handles[number] = handle

    def is_live(self, number: int) -> bool:
        """Whether a shape has not ended."""
        row = self.tables.shapes.get(self.handles.get(number, ""))
        return row is not None and row.state.is_live

    async def follow(self, sent: Iterable[Sent]) -> Ended:
        """A session with these messages, up to their end or to an error."""
        wire = Wire(sent)
        given: Any = wire
        stream = ReplicationStream(given, slot="s", publication="p", start_lsn=self.durability.recorded_lsn)
        await stream.start()
        path = self.owner.change_path
        path.connected(stream)
        self.durability.acknowledge = stream.acknowledge
        running = begin(stream.run(path.on_message, path.on_keepalive), at_end=holds_nothing)
        used_up = begin(wire.is_used_up.wait(), at_end=holds_nothing)
        await asyncio.wait((running, used_up), return_when=asyncio.FIRST_COMPLETED)
        is_stuck = not await self._settle(wire if not running.done() else None)
        error = running.exception() if running.done() else None
        running.cancel()
        used_up.cancel()
        await asyncio.wait((running, used_up))
        await self.durability.cycle()
        self.durability.acknowledge = lambda _: None
        await stream.close()
        reconnects, self.reconnects[:] = list(self.reconnects), []
        return Ended(error, reconnects, is_stuck, wire)

    async def _settle(self, wire: Wire | None) -> bool:
        """Wait until nothing is done any more."""
        path = self.owner.change_path
        for turn in range(20_000):
            if not path._open_waits and not self.owner._tasks and (wire is None or wire.current is None):
                return True
            await asyncio.sleep(0 if turn < 2000 else 0.001)
        return False

    async def restart(self) -> None:
        """A new process on the same directory."""
        live = {number: handle for number, handle in self.handles.items() if self.is_live(number)}
        recorded = self.durability.recorded_lsn
        await self.close()
        self._start(recorded)
        self.handles = live
        self.store.recover(tuple(live.values()), recorded - 1)
        await self.owner.restore([self._stored(number, handle) for number, handle in live.items()])

    def _stored(self, number: int, handle: str) -> StoredShape:
        relation, resolved = self._recording.relations[SHAPES[number][0]], self._resolved(number, handle)
        members = {relation.oid: "member"}
        return StoredShape(
            handle, handle.encode(), resolved.definition, (relation,), OLD_SNAPSHOT, members
        )  # fmt: skip

    def renew(self) -> int:
        """Create the shapes again that have ended, as clients do; returns how many there were."""
        ended = [number for number in range(len(SHAPES)) if not self.is_live(number)]
        for number in ended:
            self._add(number)
        return len(ended)

    async def read(self, number: int) -> str | None:
        """The whole log of a shape; None if it has ended."""
        handle = self.handles.get(number, "")
        tail = self.tables.tails.get(handle)
        if not self.is_live(number):
            return None
        if tail is None:
            return ""
        pieces, after = list[bytes](), AFTER_SNAPSHOT
        while tail.latest > after:
            piece = await self.reader.read_log(handle, after, tail)
            pieces.append(piece.body)
            after = piece.end
        return b",".join(pieces).decode()

    async def close(self) -> None:
        """End all tasks and close the files."""
        with contextlib.suppress(Exception):
            await self.owner.close()
        await self.store.close()
