"""The catalogue: the metadata that an instance keeps across restarts, in SQLite, with group commit.

The rows of shapes are not here but in files (`shape_log`). `synchronous=FULL`: a commit that returned
survives a power cut. Reads run in the replicator's loop, which they block, and only at start; commits run in
the write buffer's one thread. Writes of one loop turn are committed together, and so are those that arrive
during a commit: a commit costs one sync of the disk, a burst of creations two.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from pgshapes.errors import ConfigError, StorageShortage, is_shortage
from pgshapes.model.relation import RelationData
from pgshapes.model.shape import ShapeDefinition
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue_errors import is_opening_error, passing_error, write_error
from pgshapes.owner.storage_dir import close_to_others
from pgshapes.waiting.batch import BatchQueue

# Grows with every incompatible change of what is stored, the comparable included: older files are not read.
CATALOGUE_VERSION: Final = 4

_FILES: Final = 4
"""How many files SQLite opens at once: the database, the two beside it, and the directory to sync it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS shapes (
  handle TEXT PRIMARY KEY,
  comparable BLOB NOT NULL,
  definition BLOB NOT NULL,
  relations TEXT NOT NULL,
  visibility BLOB,
  memberships BLOB,
  is_snapshot_complete INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS relations (generation INTEGER PRIMARY KEY, relation BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


class StoredShape(NamedTuple):
    """A shape whose snapshot was complete when the instance stopped."""

    handle: str
    comparable: bytes
    definition: ShapeDefinition
    relations: tuple[RelationData, ...]
    """The relations of its definition, as they were when they were last compared with it."""
    visibility: SnapshotVisibility
    memberships: dict[int, str]
    """Relation oid → how it was published when the shape was created (`relation_sql.membership`)."""


def catalogue_path(storage_dir: Path) -> Path:
    """The file of the catalogue."""
    return storage_dir / f"catalogue.v{CATALOGUE_VERSION}.sqlite"


class Statement(NamedTuple):
    """One write, in SQL and its parameters."""

    sql: str
    parameters: tuple[Any, ...]


def _beside(path: Path) -> tuple[str, str]:
    """The names of the files that SQLite keeps beside a database."""
    return (f"{path.name}-wal", f"{path.name}-shm")


class CatalogueReader:
    """An open catalogue file, to be read. Raises StorageShortage for what waiting cures, else ConfigError."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the file during the block, whatever its owner commits."""
        with self._reading():
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def shapes(self) -> list[StoredShape]:
        """All shapes with a complete snapshot."""
        with self._reading():
            relations = {
                generation: msgspec.json.decode(relation, type=RelationData)
                for generation, relation in self._db.execute("SELECT generation, relation FROM relations")
            }
            rows = self._db.execute(
                "SELECT handle, comparable, definition, relations, visibility, memberships"
                " FROM shapes WHERE is_snapshot_complete"
            )
            return [
                StoredShape(
                    handle,
                    comparable,
                    msgspec.json.decode(definition, type=ShapeDefinition),
                    tuple(relations[one] for one in msgspec.json.decode(generations, type=list[int])),
                    msgspec.json.decode(visibility, type=SnapshotVisibility),
                    msgspec.json.decode(memberships, type=dict[int, str]),
                )
                for handle, comparable, definition, generations, visibility, memberships in rows
            ]

    def fact(self, name: str) -> bytes | None:
        """A stored fact, JSON, or None."""
        with self._reading():
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with _reading(self._path):
            yield


class Catalogue(CatalogueReader):
    """An open catalogue file. Raises StorageShortage for what waiting cures; what it does not cure is a
    ConfigError when the catalogue is opened or read, a CatalogueError when a write fails.

    Files of other versions are deleted: the logs of their shapes are removed as unknown.
    """

    def __init__(self, storage_dir: Path) -> None:
        path = catalogue_path(storage_dir)
        for each in (path, *map(path.with_name, _beside(path))):
            if each.exists():
                close_to_others(each)
        with _reading(path), ExitStack() as failed:
            # The files beside it get its mode.
            with suppress(OSError):
                os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            failed.callback(db.close)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_SCHEMA)
            for other in storage_dir.glob("catalogue.v*.sqlite*"):
                if not other.name.startswith(path.name):
                    with suppress(OSError):
                        other.unlink()
            failed.pop_all()
        super().__init__(path, db)

    def commit(self, statements: Sequence[Statement]) -> None:
        """Make all statements durable, or none."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in statements:
                self._db.execute(statement.sql, statement.parameters)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise write_error(error) from error
        finally:
            # After some errors SQLite has done it already; after others the next BEGIN would fail without it.
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, msgspec.MsgspecError, LookupError) as error:
        if isinstance(error, sqlite3.Error):
            what = f"the catalogue {path} cannot be read"
            passing = passing_error(error, what)
            if passing is not None:
                raise passing from error
            lack = _lack_of_files(path.parent) if is_opening_error(error) else None
            if lack is not None:
                raise StorageShortage(f"{what}: {lack.strerror or lack}") from error
        raise ConfigError(
            f"cannot read the catalogue {path}: {error}; remove the storage directory (all shapes"
            " are recreated) or choose another with --storage-dir"
        ) from error


def _lack_of_files(directory: Path) -> OSError | None:
    """Why no files can be opened now, if that is a shortage: SQLite says only that it could not open one."""
    try:
        with ExitStack() as stack:
            for _ in range(_FILES):
                stack.enter_context(TemporaryFile(dir=directory))
    except OSError as error:
        return error if is_shortage(error) else None
    return None


@contextmanager
def reading_catalogue(storage_dir: Path) -> Iterator[CatalogueReader]:
    """The catalogue, for a process that must not write it; an owner may have it open. Raises ConfigError,
    StorageShortage.
    """
    path = catalogue_path(storage_dir)
    with _reading(path):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    with closing(CatalogueReader(path, db)) as reader, reader.snapshot():
        yield reader


def insert_shape(
    handle: str, comparable: bytes, definition: ShapeDefinition, relations: Sequence[RelationData]
) -> Statement:
    """The write that adds a shape whose creation has begun."""
    return Statement(
        "INSERT INTO shapes (handle, comparable, definition, relations) VALUES (?, ?, ?, ?)",
        (handle, comparable, msgspec.json.encode(definition), _generations(relations)),
    )


def keep_relation(relation: RelationData) -> Statement:
    """The write that adds a relation, to which shapes refer by its generation."""
    return Statement(
        "INSERT OR IGNORE INTO relations (generation, relation) VALUES (?, ?)",
        (relation.generation, msgspec.json.encode(relation)),
    )


def renew_relations(handles: Iterable[str], current: Sequence[RelationData]) -> Statement:
    """The write that replaces the relations of these shapes, which continue on them."""
    return Statement(
        "UPDATE shapes SET relations = ? WHERE handle IN (SELECT value FROM json_each(?))",
        (_generations(current), msgspec.json.encode(sorted(handles)).decode()),
    )


def delete_unused_relations() -> Statement:
    """The write that deletes the relations to which no shape refers."""
    return Statement(
        "DELETE FROM relations WHERE generation NOT IN"
        " (SELECT used.value FROM shapes, json_each(shapes.relations) AS used)",
        (),
    )


def _generations(relations: Sequence[RelationData]) -> str:
    return msgspec.json.encode([relation.generation for relation in relations]).decode()


def complete_snapshot(
    handle: str,
    visibility: SnapshotVisibility,
    relations: Sequence[RelationData],
    memberships: Mapping[int, str],
) -> Statement:
    """The write that records that a shape's snapshot is complete and synced."""
    return Statement(
        "UPDATE shapes SET visibility = ?, relations = ?, memberships = ?, is_snapshot_complete = 1"
        " WHERE handle = ?",
        (
            msgspec.json.encode(visibility),
            _generations(relations),
            msgspec.json.encode(memberships),
            handle,
        ),
    )


def delete_shape(handle: str) -> Statement:
    """The write that deletes a shape."""
    return Statement("DELETE FROM shapes WHERE handle = ?", (handle,))


def delete_incomplete() -> Statement:
    """The write that deletes the shapes whose snapshot was not complete when the instance stopped."""
    return Statement("DELETE FROM shapes WHERE NOT is_snapshot_complete", ())


def delete_all_shapes() -> Statement:
    """The write that deletes every shape (purge)."""
    return Statement("DELETE FROM shapes", ())


def put_fact(name: str, value: bytes) -> Statement:
    """The write that stores a fact, JSON."""
    return Statement(
        "INSERT INTO facts (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


class CommitsStatements(Protocol):
    """The catalogue, as the write buffer uses it."""

    def commit(self, statements: Sequence[Statement]) -> None:
        """Make all statements durable, or none."""


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """Statements that one caller put; two writes of the same statements are two writes."""

    statements: tuple[Statement, ...]


class WriteBuffer:
    """Queues statements and commits them in groups, in order."""

    def __init__(self, catalogue: CommitsStatements) -> None:
        self._catalogue = catalogue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalogue")
        self._writes: BatchQueue[_Write, None] = BatchQueue(self._commit)

    def put(self, *statements: Statement) -> asyncio.Future[None]:
        """Queue writes; the future is done when all of them are durable, or fails with StorageError."""
        return self._writes.request(_Write(statements))

    async def close(self) -> None:
        """Commit what is queued and end the thread."""
        try:
            await self._writes.idle()
        finally:
            self._thread.shutdown()

    async def _commit(self, writes: tuple[_Write, ...]) -> dict[_Write, None]:
        statements = [statement for write in writes for statement in write.statements]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._catalogue.commit, statements)
        return {}
