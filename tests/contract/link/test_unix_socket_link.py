"""Cases of a link between processes: slow readers, lost connections, other owners, garbage."""

from __future__ import annotations

import asyncio
import errno
import stat
from pathlib import Path

import pytest
from tests.support.seams.links import Pair, Script, connecting, eventually, listening, turns
from tests.support.seams.raw_caller import raw_caller
from tests.support.storage.descriptors import descriptors_left

from pgshapes.errors import ConfigError, OwnerUnavailable, PgShapesError, RequestError, StorageError
from pgshapes.model.offset import Offset
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.tail import Tail
from pgshapes.tables import frames
from pgshapes.tables.calls import DeleteShape, Reply
from pgshapes.tables.deltas import Rows
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.owner_connection import MAX_UNSENT_BYTES, SLICE_ROWS, state_slices
from pgshapes.tables.required_version import NUMBER
from pgshapes.tables.rows import ConditionRow, ShapeRow
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import TABLES
from pgshapes.tables.unix_link import UnixSocketOwner


def fill(tables: Tables, shapes: int) -> None:
    for number in range(shapes):
        handle, comparable = f"handle-{number}", f"comparable {number}".encode() * 10
        tables.handles.put(comparable, handle)
        tables.shapes.put(handle, ShapeRow(comparable, (1,), ShapeState.LIVE))
        tables.tails.put(handle, Tail(Offset(number, 0), position=(number,)))


def content(tables: object) -> dict[str, dict[object, object]]:
    return {name: dict(getattr(tables, name).items()) for name in TABLES}


# --- reaching the owner


async def test_only_the_user_can_open_the_socket(unix_pair: Pair, socket_path: Path) -> None:
    mode = socket_path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert list(socket_path.parent.iterdir()) == [socket_path]


async def test_an_owner_removes_its_own_socket_and_not_its_successors(socket_path: Path) -> None:
    async with listening(socket_path, Tables(), Script()):
        pass
    assert not socket_path.exists()
    successor = UnixSocketOwner(socket_path, Tables(), Script())
    async with listening(socket_path, Tables(), Script()):
        await successor.start()
    assert socket_path.exists()
    await successor.close()


async def test_a_path_that_cannot_be_bound_is_a_config_error(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 200), tmp_path / "missing" / "owner.sock"):
        owner = UnixSocketOwner(path, Tables(), Script())
        with pytest.raises(ConfigError):
            await owner.start()


async def test_an_owner_that_lacks_descriptors_can_be_started_later(socket_path: Path) -> None:
    owner = UnixSocketOwner(socket_path, Tables(), Script())
    with descriptors_left(0), pytest.raises(OSError, match="Too many open files"):
        await owner.start()
    await owner.start()
    await owner.close()


async def test_an_owner_that_lacks_room_can_be_started_later(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the one of the system, not one that ends the start."""
    owner = UnixSocketOwner(socket_path, Tables(), Script())

    def rename(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no room"):
        patched.setattr(Path, "rename", rename)
        await owner.start()
    await owner.start()
    assert list(socket_path.parent.iterdir()) == [socket_path]
    await owner.close()


async def test_a_caller_may_start_before_its_owner(socket_path: Path) -> None:
    tables = Tables()
    tables.progress.put("a", 1)
    async with connecting(socket_path) as link:
        await turns()
        assert not link.is_connected and link.epoch == 0
        with pytest.raises(OwnerUnavailable):
            await link.call(DeleteShape("h"), timeout_s=60)
        with pytest.raises(OwnerUnavailable):
            await link.barrier(timeout_s=10)
        async with listening(socket_path, tables, Script()):
            async with asyncio.timeout(10):
                await link.connected()
            assert link.tables.progress["a"] == 1


async def test_an_idle_link_stays_connected(unix_pair: Pair) -> None:
    await asyncio.sleep(1.6)
    assert unix_pair.link.is_connected
    assert unix_pair.unix_link.syncs == 1


# --- the whole state


async def test_twenty_thousand_rows_arrive_completely_while_they_change(socket_path: Path) -> None:
    tables = Tables()
    fill(tables, 20_000)
    async with listening(socket_path, tables, Script()), connecting(socket_path) as link:
        changing = asyncio.create_task(keep_changing(tables))
        async with asyncio.timeout(60):
            while not link.is_connected:
                assert len(link.tables.tails) == 0, "a state is seen before it is whole"
                await asyncio.sleep(0)
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        await link.barrier(timeout_s=10)
        assert content(link.tables) == content(tables)
        assert link.syncs == 1


async def keep_changing(tables: Tables) -> None:
    for number in range(1_000_000):
        with tables.transaction():
            handle = f"handle-{number * 7919 % 20_000}"
            tables.tails.put(handle, Tail(Offset(number, 2), position=(number,)))
            tables.shapes.remove(f"handle-{number * 104_729 % 20_000}")
            tables.handles.put(b"new %d" % number, handle)
        await asyncio.sleep(0)


def test_the_state_is_sent_in_bounded_slices() -> None:
    tables = Tables()
    fill(tables, 1000)
    slices = list(state_slices(tables))
    sizes = [len(changes) for rows in slices for _, changes in rows.changes()]
    assert max(sizes) <= SLICE_ROWS
    assert sum(sizes) == 3000


async def test_a_state_that_is_not_read_is_not_buffered(socket_path: Path) -> None:
    tables = Tables()
    for number in range(2000):
        tables.handles.put(b"%d" % number + bytes(20_000), "h")
    async with listening(socket_path, tables, Script()) as owner, raw_caller(socket_path) as caller:
        caller.send(frames.Subscribe())
        await eventually(lambda: any(connection._is_paused for connection in owner._connections))
        await turns(100)
        (connection,) = owner._connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < MAX_UNSENT_BYTES // 2
        assert connection in owner._connections


# --- readers that do not read


async def test_a_reader_that_stops_reading_keeps_its_link_and_gets_what_it_has_missed(
    unix_pair: Pair, socket_path: Path
) -> None:
    tables, owner = unix_pair.tables, unix_pair.owner
    assert owner is not None
    async with raw_caller(socket_path) as stopped:
        await stopped.follow()
        await eventually(lambda: all(feed.acknowledged >= 0 for feed in owner._connections))
        tables.shapes.put("h", ShapeRow(b"c", (1,), ShapeState.CREATING))
        tables.shapes.remove("h")
        await tables.acknowledged()
        assert tables.broadcast.late_feeds == 1
        tables.progress.put("later", 1)
        tables.broadcast.flush()
        assert len(owner._connections) == 2
        async with asyncio.timeout(10):
            numbers = [(await stopped.next_of(frames.Deltas)).number for _ in range(2)]
        assert numbers == [tables.required[NUMBER], tables.broadcast.number]
    await unix_pair.link.barrier(timeout_s=10)
    assert unix_pair.unix_link.syncs == 1


async def test_only_a_reader_with_too_much_unsent_is_cut(unix_pair: Pair, socket_path: Path) -> None:
    async with raw_caller(socket_path) as stopped:
        await stopped.follow()
        assert unix_pair.owner is not None
        for number in range(40):
            unix_pair.tables.handles.put(b"%d" % number, "x" * 2**20)
            await unix_pair.link.barrier(timeout_s=10)
        assert len(unix_pair.owner._connections) == 1
        async with asyncio.timeout(10):
            assert await stopped.is_cut()
    assert unix_pair.unix_link.syncs == 1
    assert len(unix_pair.link.tables.handles) == 40


async def test_a_link_that_was_cut_reconnects_and_wakes_waiters(unix_pair: Pair) -> None:
    tables, link = unix_pair.tables, unix_pair.unix_link
    tables.progress.put("a", 1)
    await link.barrier(timeout_s=10)
    waiting = asyncio.ensure_future(link.tables.progress.changed("unrelated"))
    await turns()
    assert unix_pair.owner is not None
    for connection in tuple(unix_pair.owner._connections):
        connection.cut()
    tables.progress.put("b", 2)
    tables.progress.remove("a")
    async with asyncio.timeout(10):
        await waiting
        await link.connected()
    assert dict(link.tables.progress.items()) == {"b": 2}
    assert link.syncs == 2
    assert link.epoch == tables.epoch


# --- what cannot be sent

LONE = "a file \udcff"
WITH_ESCAPE = "a file \\udcff"


async def test_texts_that_are_not_valid_unicode_do_not_end_the_link(unix_pair: Pair) -> None:
    tables, link = unix_pair.tables, unix_pair.unix_link

    @unix_pair.script.on("error")
    async def fail(context: CallContext) -> Reply:
        raise StorageError(LONE, path=LONE)

    @unix_pair.script.on("reply")
    async def reply(context: CallContext) -> Reply:
        return LONE

    with pytest.raises(StorageError) as failed:
        await unix_pair.delete("error")
    assert (failed.value.message, failed.value.details) == (WITH_ESCAPE, {"path": WITH_ESCAPE})
    with pytest.raises(PgShapesError, match="cannot be encoded"):
        await unix_pair.delete("reply")
    with pytest.raises(RequestError):
        await unix_pair.delete(LONE)
    tables.status.put("c", ConditionRow(False, LONE))
    await link.barrier(timeout_s=10)
    assert link.tables.status["c"] == ConditionRow(False, WITH_ESCAPE)
    assert (link.syncs, link.is_connected) == (1, True)
    assert link._connection is not None and not link._connection._pending
    async with connecting(Path(link._path)) as late:
        await late.connected()
        assert late.tables.status["c"] == ConditionRow(False, WITH_ESCAPE)


async def test_a_reply_that_is_too_long_is_the_error_of_its_call(
    unix_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    @unix_pair.script.on("long")
    async def reply(context: CallContext) -> Reply:
        return "x" * 100_000

    @unix_pair.script.on("error")
    async def fail(context: CallContext) -> Reply:
        raise RequestError("y" * 100_000)

    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 50_000)
    for handle in ("long", "error"):
        with pytest.raises(PgShapesError):
            await unix_pair.delete(handle)
    assert (unix_pair.unix_link.syncs, unix_pair.link.is_connected) == (1, True)


# --- other owners


async def test_calls_in_flight_end_when_the_owner_does(socket_path: Path) -> None:
    script = Script()

    @script.on("h")
    async def wait_for_leave(context: CallContext) -> Reply:
        await context.cancelled.wait()
        return None

    async with connecting(socket_path) as link:
        async with listening(socket_path, Tables(), script):
            await link.connected()
            calls = [asyncio.create_task(link.call(DeleteShape("h"), timeout_s=60)) for _ in range(3)]
            await eventually(lambda: len(script.contexts) == 3)
        for call in calls:
            with pytest.raises(OwnerUnavailable):
                await call
        assert all(context.is_cancelled for context in script.contexts)
        await eventually(lambda: not link.is_connected)
        with pytest.raises(OwnerUnavailable):
            await link.call(DeleteShape("h"), timeout_s=60)


async def test_another_owner_at_the_same_path_replaces_everything(socket_path: Path) -> None:
    first, second = Tables(), Tables()
    first.progress.put("old", 1)
    second.progress.put("new", 2)
    async with connecting(socket_path) as link:
        async with listening(socket_path, first, Script()):
            await link.connected()
            seen = link.tables
            assert (link.epoch, dict(seen.progress.items())) == (first.epoch, {"old": 1})
        await eventually(lambda: not link.is_connected)
        assert dict(seen.progress.items()) == {"old": 1}, "what was last known can still be read"
        waiting = asyncio.ensure_future(seen.progress.changed("old"))
        async with listening(socket_path, second, Script()):
            async with asyncio.timeout(10):
                await waiting
            assert link.tables is seen
            assert (link.epoch, dict(seen.progress.items())) == (second.epoch, {"new": 2})
            assert link.is_connected


# --- garbage


@pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\x00\x00\x00\x01\xc1", frames.encode(frames.Heartbeat())])
async def test_garbage_ends_the_connection_that_sent_it(
    unix_pair: Pair, socket_path: Path, garbage: bytes
) -> None:
    async with raw_caller(socket_path) as caller:
        caller.writer.write(garbage)
        async with asyncio.timeout(10):
            assert await caller.is_cut()
    await unix_pair.link.barrier(timeout_s=10)
    assert unix_pair.unix_link.syncs == 1


async def test_a_caller_disconnects_from_an_owner_that_sends_garbage(socket_path: Path) -> None:
    visits: list[asyncio.StreamWriter] = []
    openings = [
        b"\xff" * 100,
        frames.encode(frames.Welcome(frames.VERSION + 1, 5)),
        frames.encode(frames.Welcome(frames.VERSION, 5)) + frames.encode(frames.StateSlice(Rows())),
        frames.encode(frames.Welcome(frames.VERSION, 5)) + frames.encode(frames.Deltas(7, Rows())),
    ]

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(openings[len(visits) % len(openings)])
        visits.append(writer)

    server = await asyncio.start_unix_server(visit, path=str(socket_path))
    async with connecting(socket_path) as link:
        await eventually(lambda: len(visits) > len(openings))
        assert not link.is_connected and link.epoch == 0
        server.close()
        for writer in visits:
            writer.close()
        async with listening(socket_path, Tables(), Script()), asyncio.timeout(10):
            await link.connected()


# --- an owner that sends nothing


class SilentOwner:
    """Sends each caller an empty state of a new epoch, and then nothing."""

    def __init__(self, path: Path) -> None:
        self.visits: list[asyncio.StreamWriter] = []
        self._path = path

    async def __aenter__(self) -> SilentOwner:
        self.server = await asyncio.start_unix_server(self._visit, path=str(self._path))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for writer in self.visits:
            writer.close()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.append(writer)
        writer.write(frames.encode(frames.Welcome(frames.VERSION, len(self.visits))))
        await reader.read(1000)
        writer.write(frames.encode(frames.StateBegin(0)) + frames.encode(frames.StateEnd(0)))


async def test_a_silent_owner_is_not_connected_until_it_sends_again(socket_path: Path) -> None:
    async with SilentOwner(socket_path) as owner, connecting(socket_path) as link, asyncio.timeout(30):
        await link.connected()
        call = asyncio.create_task(link.call(DeleteShape("h"), timeout_s=60))
        await eventually(lambda: not link.is_connected)
        for _ in range(50):
            assert not link.is_connected
            await asyncio.sleep(0.01)
        with pytest.raises(OwnerUnavailable):
            await link.call(DeleteShape("h"), timeout_s=60)
        assert not call.done()
        owner.visits[0].write(frames.encode(frames.Heartbeat()))
        await link.connected()
        assert link.syncs == 1
        owner.visits[0].write(frames.encode(frames.Answer(1, True)))
        assert await call is True
        assert len(owner.visits) == 1


async def test_a_silent_owner_that_is_lost_is_replaced_by_the_next_one(socket_path: Path) -> None:
    async with SilentOwner(socket_path) as owner, connecting(socket_path) as link, asyncio.timeout(30):
        await link.connected()
        call = asyncio.create_task(link.call(DeleteShape("h"), timeout_s=60))
        await eventually(lambda: not link.is_connected)
        assert (link.epoch, len(owner.visits)) == (1, 1)
        assert not call.done()
        owner.visits[0].close()
        with pytest.raises(OwnerUnavailable):
            await call
        await eventually(lambda: link.epoch == 2)
        assert link.syncs == 2
        assert link.is_connected


# --- many at once


async def test_a_thousand_concurrent_calls_get_their_own_answers(unix_pair: Pair) -> None:
    async def echo(handle: str) -> Reply:
        await asyncio.sleep(0)
        return handle

    def answer(name: str) -> None:
        unix_pair.script.acts[name] = lambda _: echo(name)

    for number in range(1000):
        answer(str(number))
    answers = await asyncio.gather(*(unix_pair.delete(str(number)) for number in range(1000)))
    assert answers == [str(number) for number in range(1000)]
    assert unix_pair.mailbox.depth == 0
    assert unix_pair.mailbox.calls["delete_shape"] == 1000


async def test_ten_thousand_waiters_on_one_key_are_one_notice(unix_pair: Pair) -> None:
    seen = unix_pair.link.tables.progress
    waiting = [asyncio.ensure_future(seen.changed("k")) for _ in range(10_000)]
    await turns()
    for task in waiting[::2]:
        task.cancel()
    unix_pair.tables.progress.put("k", 1)
    async with asyncio.timeout(30):
        await asyncio.gather(*waiting[1::2])
    assert len(seen._notices) == 0
