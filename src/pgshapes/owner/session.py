"""One session of the owner with its database: the lock, the slot, the publication and the stream.

Only this module decides whether the stored shapes may be kept. Owns its connections.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, NamedTuple

from pgshapes.config import Settings
from pgshapes.errors import ConfigError, NotNow, SourceError
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.logs import get_logger
from pgshapes.model.lsn import Lsn
from pgshapes.model.quoting import quote_identifier
from pgshapes.postgres.backend_activity import terminate
from pgshapes.postgres.connection import APPLICATION, Connection, connect, connect_for_replication
from pgshapes.postgres.lock import AdvisoryLock
from pgshapes.postgres.pooler import require_direct
from pgshapes.postgres.publication import Publication
from pgshapes.postgres.publication_sql import creation_statement
from pgshapes.postgres.replication import ReplicationStream
from pgshapes.postgres.slot import Slot, create_slot, drop_slot, find_slot
from pgshapes.postgres.sqlstate import OPERATOR
from pgshapes.postgres.system_identity import SystemIdentity, check_source, identify_system

_log = get_logger(__name__)

SLOT_PREFIX: Final = "electric_slot_"
PUBLICATION_PREFIX: Final = "electric_publication_"


class StoredSource(NamedTuple):
    """The database that the stored shapes belong to, as the catalogue has it; None if it has nothing."""

    identity: SystemIdentity | None
    recorded_lsn: Lsn | None


class StartPoint(NamedTuple):
    """Where to stream from, and why the stored shapes cannot be kept; None if they can."""

    identity: SystemIdentity
    start_lsn: Lsn
    purge_reason: str | None


class Session:
    """Use as `async with`; then `acquire`, `drop_slot` if it has to be another one, `prepare`, `stream`."""

    def __init__(self, settings: Settings, publication: Publication, conditions: Conditions) -> None:
        self._settings = settings
        self._publication = publication
        self._conditions = conditions
        self._stack = AsyncExitStack()
        self._slot = SLOT_PREFIX + settings.replication_stream_id
        self._admin: Connection | None = None
        self._walsender: Connection | None = None
        self.server_version = ""
        """As the server shows it, once it is connected."""
        self.lock = AdvisoryLock(settings.database_url, self._slot)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def acquire(self) -> None:
        """Check the connection and the server, and acquire the lock. Raises ConfigError, SourceError."""
        url = self._settings.database_url
        await require_direct(url)
        admin = await self._close_at_end(await connect(url, application_name="pgshapes admin"))
        await check_source(admin)
        self._stack.push_async_callback(self.lock.release)
        await self.lock.acquire(self._note_waiting)
        self._conditions.meet(Condition.LOCK_ACQUIRED)
        self._admin = admin

    async def drop_slot(self) -> None:
        """Drop the slot, whatever its state; `prepare` creates it again. Raises SourceError.

        This needs no walsender: where none is left, the WAL is released all the same.
        """
        assert self._admin is not None
        await find_slot(self._admin, self._slot)  # raises if it is not ours
        await drop_slot(self._admin, self._slot)

    async def prepare(self, stored: Callable[[], StoredSource]) -> StartPoint:
        """Ensure publication and slot. Raises ConfigError, SourceError."""
        admin = self._admin
        assert admin is not None
        self._walsender = await self._close_at_end(await connect_for_replication(self._settings.database_url))
        self.server_version = self._walsender.info.parameter_status("server_version") or ""
        identity = await identify_system(self._walsender)
        slot, is_new = await self._ensure_slot(admin, self._walsender)
        return self._start_point(stored(), identity, slot, is_new)

    async def stream(self, start_lsn: Lsn) -> ReplicationStream:
        """The running stream, from `start_lsn` on. Raises SourceError."""
        assert self._walsender is not None
        stream = ReplicationStream(
            self._walsender, slot=self._slot, publication=self._publication.name, start_lsn=start_lsn
        )
        self._stack.push_async_callback(self._close_stream, stream, self._walsender.info.backend_pid)
        await stream.start()
        return stream

    async def _close_stream(self, stream: ReplicationStream, pid: int) -> None:
        await stream.close()
        if stream.is_silent:
            self.lock.is_suspect = True
            await terminate(partial(connect, self._settings.database_url), pid, APPLICATION)

    def _note_waiting(self) -> None:
        self._conditions.unmeet(Condition.LOCK_ACQUIRED)
        _log.info("waiting for another instance to release the lock", slot=self._slot)

    async def _ensure_slot(self, admin: Connection, walsender: Connection) -> tuple[Slot, bool]:
        """The slot, and whether it is new. A slot that is older than the publication has missed changes, so
        it is created after the publication. It is looked up first: a slot of that name may belong to another
        database.
        """
        slot = await find_slot(admin, self._slot)
        if slot is not None and not await self._has_publication():
            # First, so that no slot is left that is older, whoever creates the publication, and whatever ends
            # this process before the slot is created.
            await drop_slot(admin, self._slot)
            slot = None
        is_new_publication = await self._ensure_publication(admin)
        if slot is not None and slot.unusable is not None:
            _log.error(
                "replication slot cannot be used; all shapes are recreated",
                slot=self._slot,
                reason=slot.unusable,
            )
        elif slot is not None and not is_new_publication:
            return slot, False
        await drop_slot(admin, self._slot)
        temporary = self._settings.cleanup_replication_slots_on_shutdown
        start = await create_slot(walsender, admin, self._slot, temporary=temporary)
        return Slot(self._slot, start, None), True

    async def _has_publication(self) -> bool:
        try:
            return await self._publication.exists()
        except NotNow as error:
            raise _source_error(error) from error

    async def _ensure_publication(self, admin: Connection) -> bool:
        try:
            return await self._publication.prepare()
        except NotNow as error:
            raise _source_error(error) from error
        except SourceError as error:
            if error.action != OPERATOR:
                raise
            statement = creation_statement(self._publication.name, admin.info.server_version)
            advice = f"run {statement} as a user who may"
            if not self._settings.manual_table_publishing:
                database, user = quote_identifier(admin.info.dbname), quote_identifier(admin.info.user)
                advice = f"run GRANT CREATE ON DATABASE {database} TO {user}, or {advice}"
            raise ConfigError(f"{error.message}; {advice}") from error

    def _start_point(
        self, stored: StoredSource, identity: SystemIdentity, slot: Slot, is_new: bool
    ) -> StartPoint:
        recorded = stored.recorded_lsn
        reason = None
        if is_new:
            reason = "the replication slot is new"
        elif stored.identity != identity:
            reason = "the database is another one, or was restored"
        elif recorded is None or slot.confirmed_flush_lsn > recorded:
            reason = "the storage directory is older than the replication slot"
        start = slot.confirmed_flush_lsn if reason or recorded is None else recorded
        return StartPoint(identity, start, reason)

    async def _close_at_end(self, connection: Connection) -> Connection:
        self._stack.push_async_callback(connection.close)
        return connection


def _source_error(error: NotNow) -> SourceError:
    """Why a pool could not connect; the text of a NotNow is for clients."""
    cause = error.__cause__
    return cause if isinstance(cause, SourceError) else SourceError(error.message)
