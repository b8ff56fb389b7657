"""Sessions follow each other whatever ends one; a request to recreate the slot ends none that fulfils it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.postgres.pgoutput_encoder import encode
from tests.support.storage.descriptors import descriptors_left

from pgshapes.config import Settings
from pgshapes.errors import ConfigError, DiskFull, SourceError, StorageShortage, WireError
from pgshapes.gates.conditions import ServiceStatus, obstacle_text, service_status_of
from pgshapes.owner import replicator as replicator_module
from pgshapes.owner import retries
from pgshapes.owner.owner import Owner
from pgshapes.owner.replicator import Replicator
from pgshapes.owner.session import StartPoint
from pgshapes.owner.storage_dir import StorageDir
from pgshapes.owner.stream_errors import UnreadableStream
from pgshapes.postgres.pgoutput_messages import Begin
from pgshapes.postgres.system_identity import SystemIdentity
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import Tables
from pgshapes.tables.unix_link import UnixSocketOwner


def settings_in(directory: Path) -> Settings:
    return Settings(database_url="postgresql://nobody@127.0.0.1:1/none", insecure=True, storage_dir=directory)


def test_a_failed_start_releases_the_storage_directory(tmp_path: Path) -> None:
    def make_store() -> ShapeStore:
        raise ConfigError("cannot write")

    with pytest.raises(ConfigError, match="cannot write"):
        Replicator(settings_in(tmp_path), Tables(), make_store)
    StorageDir(tmp_path).release()


class Storages:
    """Opens stores; at first it fails."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    def __call__(self) -> Any:
        if self._errors:
            raise self._errors.pop(0)
        return FakeStore()


SHORTAGES = [StorageShortage("no descriptors"), DiskFull("full"), OSError(24, "Too many open files")]


@pytest.mark.parametrize("is_restart", [False, True])
async def test_a_shortage_at_a_start_is_waited_for(tmp_path: Path, is_restart: bool) -> None:
    sessions, tables = Sessions(), Tables()
    async with running(tmp_path, sessions, Storages(*SHORTAGES), tables=tables, is_restart=is_restart):
        while not obstacle_text(tables.status) and not is_restart:
            await asyncio.sleep(0)
        if not is_restart:
            assert service_status_of(tables.status) is ServiceStatus.WAITING
        await sessions.at("acquire")


async def test_the_socket_of_a_start_is_waited_for(tmp_path: Path) -> None:
    """Also without a descriptor left: the socket of an owner is the first that a start needs."""
    tables, path = Tables(), tmp_path / "owner"
    with without_pauses(Sessions()):
        replicator = Replicator(settings_in(tmp_path), tables, Storages())
        owner = UnixSocketOwner(path, tables, replicator.handle)
        replicator.on_start = owner.start
        with descriptors_left(0):
            running = asyncio.create_task(replicator.run())
            while not obstacle_text(tables.status):
                await asyncio.sleep(0)
            assert not running.done() and not path.exists()
        while not path.exists():
            await asyncio.sleep(0)
        replicator.stop()
        await running
        await owner.close()


async def test_a_socket_that_cannot_be_bound_ends_the_start(tmp_path: Path) -> None:
    with without_pauses(Sessions()):
        replicator = Replicator(settings_in(tmp_path), Tables(), Storages())
        owner = UnixSocketOwner(tmp_path / "missing" / "owner", Tables(), replicator.handle)
        replicator.on_start = owner.start
        with pytest.raises(ConfigError, match="cannot listen"):
            await replicator.run()


async def test_a_start_that_waits_ends_with_what_does_not_pass(tmp_path: Path) -> None:
    make_store = Storages(DiskFull("full"), ConfigError("cannot write"))
    with without_pauses(Sessions()):
        replicator = Replicator(settings_in(tmp_path), Tables(), make_store, is_restart=True)
        with pytest.raises(ConfigError, match="cannot write"):
            await replicator.run()
    StorageDir(tmp_path).release()


async def test_a_start_that_waits_can_be_stopped(tmp_path: Path) -> None:
    async with running(tmp_path, Sessions(), Storages(*[DiskFull("full")] * 10_000)) as replicator:
        replicator.stop()
    StorageDir(tmp_path).release()


class FakeStore:
    """An empty store."""

    def recover(self, *_: object) -> dict[str, Any]:
        return {}

    async def empty_trash(self) -> None:
        pass

    async def sync(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Sessions:
    """Makes the sessions of a replicator, each of which waits at `gate`, its next step, for the test."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[str] = asyncio.Queue()
        """What the sessions do."""
        self.gates: dict[str, asyncio.Future[None]] = {}
        self.streams: list[Any] = []
        """Those of the next sessions, which do not wait for the test then."""
        self.lock = self
        self.server_version = "16.0"

    async def wait_until_lost(self) -> None:
        await asyncio.get_running_loop().create_future()

    def __call__(self, *_: Any, **__: Any) -> Sessions:
        return self

    async def __aenter__(self) -> Sessions:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.steps.put_nowait("end")

    async def _step(self, name: str) -> None:
        self.steps.put_nowait(name)
        self.gates[name] = asyncio.get_running_loop().create_future()
        await self.gates[name]

    async def acquire(self) -> None:
        await self._step("acquire")

    async def drop_slot(self) -> None:
        await self._step("drop")

    async def prepare(self, _: object) -> StartPoint:
        await self._step("prepare")
        return StartPoint(SystemIdentity("1", 1), 1, None)

    async def stream(self, _: object) -> Any:
        if self.streams:
            return self.streams.pop(0)
        return await self._step("stream")

    async def at(self, *names: str) -> None:
        """Wait until the sessions have done this next."""
        async with asyncio.timeout(10):
            assert tuple([await self.steps.get() for _ in names]) == names

    def go_on(self, name: str) -> None:
        self.gates[name].set_result(None)

    def fail(self, name: str, error: Exception) -> None:
        self.gates[name].set_exception(error)


@contextmanager
def without_pauses(sessions: Sessions) -> Iterator[None]:
    """Let replicators have these sessions, without pauses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicator_module, "Session", sessions)
        patch.setattr(retries, "_RECONNECT_FIRST_S", 0.0)
        yield


@asynccontextmanager
async def running(
    directory: Path,
    sessions: Sessions,
    make_store: Callable[[], Any] = FakeStore,
    *,
    tables: Tables | None = None,
    is_restart: bool = True,
) -> AsyncIterator[Replicator]:
    """A replicator without pauses, with these sessions; it has started before if `is_restart`."""
    with without_pauses(sessions):
        replicator = Replicator(settings_in(directory), tables or Tables(), make_store, is_restart=is_restart)
        task = asyncio.create_task(replicator.run())
        try:
            yield replicator
        finally:
            replicator.stop()
            await task


@pytest.mark.parametrize("error", [DiskFull("full"), MemoryError(), KeyError("a defect")], ids=repr)
async def test_a_session_that_fails_is_followed_by_another(tmp_path: Path, error: Exception) -> None:
    sessions = Sessions()
    async with running(tmp_path, sessions):
        await sessions.at("acquire")
        sessions.go_on("acquire")
        await sessions.at("prepare")
        sessions.fail("prepare", error)
        await sessions.at("end", "acquire")


async def test_loading_that_fails_is_begun_again(tmp_path: Path) -> None:
    """Also when the shapes are restored, but the callers could not be told."""
    sessions, loads = Sessions(), Loads()
    async with running(tmp_path, sessions) as replicator:
        replicator.on_loaded = loads.told
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Owner, "restore", loads.restore)
            for end in ("end", "end", "stream"):
                await sessions.at("acquire")
                sessions.go_on("acquire")
                await sessions.at("prepare")
                sessions.go_on("prepare")
                await sessions.at(end)
    assert loads.done == ["restore", "restore", "told", "told"]


class Loads:
    """What is done when shapes are loaded; the first time it fails for want of something."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def restore(self, _: object) -> None:
        self._do("restore", DiskFull("full"))

    async def told(self) -> None:
        self._do("told", OSError(24, "Too many open files"))

    def _do(self, what: str, error: Exception) -> None:
        self.done.append(what)
        if self.done.count(what) == 1:
            raise error


async def test_the_end_of_a_session_hides_nothing(tmp_path: Path) -> None:
    """Not even with an error that is none of ours; and it acknowledges nothing later."""

    class NoThread:
        acknowledge: Any = "the stream's"

        async def cycle(self) -> None:
            raise RuntimeError("can't start new thread")

    async with running(tmp_path, Sessions()) as replicator:
        durability: Any = NoThread()
        replicator.durability = durability
        await replicator._end_session()
        replicator.durability = None
    assert durability.acknowledge(1) is None


async def test_a_request_ends_no_session_that_fulfils_it(tmp_path: Path) -> None:
    """It is made again and again while sessions cannot begin, and while one drops the slot."""
    sessions = Sessions()
    async with running(tmp_path, sessions) as replicator:
        await sessions.at("acquire")
        replicator.recreate_slot("too much WAL")
        sessions.fail("acquire", SourceError("no walsender is left"))
        await sessions.at("end", "acquire")
        replicator.recreate_slot("too much WAL")
        sessions.go_on("acquire")
        await sessions.at("drop")
        replicator.recreate_slot("too much WAL")
        sessions.go_on("drop")
        await sessions.at("prepare")


async def test_a_session_that_keeps_the_slot_ends_and_the_next_recreates_it(tmp_path: Path) -> None:
    sessions = Sessions()
    async with running(tmp_path, sessions) as replicator:
        await sessions.at("acquire")
        sessions.go_on("acquire")
        await sessions.at("prepare")
        replicator.recreate_slot("too much WAL")
        await sessions.at("end", "acquire")
        sessions.go_on("acquire")
        await sessions.at("drop")


async def test_a_slot_that_was_not_dropped_is_dropped_by_a_later_session(tmp_path: Path) -> None:
    sessions = Sessions()
    async with running(tmp_path, sessions) as replicator:
        replicator.recreate_slot("too much WAL")
        for _ in range(2):
            await sessions.at("acquire")
            sessions.go_on("acquire")
            await sessions.at("drop")
            sessions.fail("drop", SourceError("the slot is active"))
            await sessions.at("end")


async def test_a_request_that_is_withdrawn_recreates_nothing(tmp_path: Path) -> None:
    sessions = Sessions()
    async with running(tmp_path, sessions) as replicator:
        await sessions.at("acquire")
        replicator.recreate_slot("too much WAL")
        replicator.keep_slot()
        sessions.go_on("acquire")
        await sessions.at("prepare")


class DamagedStream:
    """Sends a keepalive, and then a transaction with a message that cannot be read."""

    received_lsn = 300
    heard_at = 0.0
    is_doubtful = False

    def __init__(self, damage: bytes) -> None:
        self.acknowledged: list[int] = []
        self.acknowledge = self.acknowledged.append
        self._damage = damage

    async def run(
        self, on_message: Callable[[bytes, int], None], on_keepalive: Callable[[int], None]
    ) -> None:
        on_keepalive(200)
        on_message(encode(Begin(300, 0, 7)), 300)
        try:
            on_message(self._damage, 300)
        except WireError as error:
            error.details["lsn"] = 300  # as the real one does
            raise

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


async def run_streams(
    directory: Path, streams: list[DamagedStream], *, replicator_ends: bool = False
) -> None:
    """Run a replicator with these streams, one for each session; then it ends, or begins another session."""

    async def flushed(_: object) -> int:
        return 300

    sessions = Sessions()
    sessions.streams = [*streams]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicator_module, "flushed_lsn", flushed)
        async with running(directory, sessions):
            for _ in streams:
                await sessions.at("acquire")
                sessions.go_on("acquire")
                await sessions.at("prepare")
                sessions.go_on("prepare")
                await sessions.at("end")
            if not replicator_ends:
                await sessions.at("acquire")


async def test_a_message_that_cannot_be_read_is_requested_again(tmp_path: Path) -> None:
    """Two times the same, and then another: it was damaged on the way."""
    streams = [DamagedStream(damage) for damage in (b"?", b"?", b"!", b"?", b"?")]
    await run_streams(tmp_path, streams)
    assert [stream.acknowledged for stream in streams] == [[200], [], [], [], []]


async def test_a_message_that_can_never_be_read_ends_the_program(tmp_path: Path) -> None:
    streams = [DamagedStream(b"?") for _ in range(3)]
    with pytest.raises(
        UnreadableStream, match=r"16\.0 sent at 0/12C .* install a newer pgshapes, or run SELECT"
    ):
        await run_streams(tmp_path, streams, replicator_ends=True)
    assert [stream.acknowledged for stream in streams] == [[200], [], []]
