"""A caller and an owner that is a process: stopped, busy, killed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from tests.support.seams.links import connecting, eventually
from tests.support.servers.owner_process import owner_process

from pgshapes.errors import OwnerTimeout, OwnerUnavailable
from pgshapes.tables import frames
from pgshapes.tables.calls import DeleteShape


async def test_a_killed_owner_is_replaced_by_the_next_one(socket_path: Path) -> None:
    async with connecting(socket_path) as link, asyncio.timeout(60):
        with owner_process(socket_path) as first:
            await link.connected()
            epoch = link.epoch
            assert link.tables.progress["pid"] == first.pid
            call = asyncio.create_task(link.call(DeleteShape("hang"), timeout_s=60))
            await eventually(lambda: link.tables.progress.get("begun") == 1)
            first.send_signal(signal.SIGKILL)
            with pytest.raises(OwnerUnavailable):
                await call
        with owner_process(socket_path) as second:
            await eventually(lambda: link.epoch != epoch, 30)
            assert link.tables.progress["pid"] == second.pid
            assert "begun" not in link.tables.progress
            assert await link.call(DeleteShape("x"), timeout_s=60) == "x"


async def test_a_stopped_owner_is_not_connected_until_it_continues(socket_path: Path) -> None:
    async with connecting(socket_path) as link, asyncio.timeout(60):
        with owner_process(socket_path) as owner:
            await link.connected()
            owner.send_signal(signal.SIGSTOP)
            call = asyncio.create_task(link.call(DeleteShape("late"), timeout_s=60))
            await eventually(lambda: not link.is_connected, 30)
            with pytest.raises(OwnerUnavailable):
                await link.call(DeleteShape("x"), timeout_s=60)
            assert not call.done()
            owner.send_signal(signal.SIGCONT)
            assert await call == "late"
            await link.connected()
            assert link.syncs == 1
            assert link.tables.progress["begun"] == 1


async def test_nothing_waits_for_a_stopped_owner_without_limit(socket_path: Path) -> None:
    """Before it counts as silent everything is sent to it."""
    async with connecting(socket_path) as link, asyncio.timeout(60):
        with owner_process(socket_path) as owner:
            await link.connected()
            owner.send_signal(signal.SIGSTOP)
            waits = [link.call(DeleteShape("late"), timeout_s=0.01), link.barrier(timeout_s=0.01)]
            found = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(error) for error in found] == [OwnerTimeout, OwnerTimeout]
            owner.send_signal(signal.SIGCONT)
            await link.barrier(timeout_s=60)


async def test_a_state_that_does_not_arrive_is_not_waited_for_without_limit(socket_path: Path) -> None:
    """The owner has welcomed the caller, and stops before it has sent its tables."""

    writers: list[asyncio.StreamWriter] = []

    async def welcome(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(frames.encode(frames.Welcome(frames.VERSION, 1)))

    server = await asyncio.start_unix_server(welcome, socket_path)
    async with server, connecting(socket_path) as link, asyncio.timeout(60):
        await eventually(lambda: link._connection is not None)
        with pytest.raises(OwnerTimeout):
            await link.call(DeleteShape("late"), timeout_s=0.01)
        with pytest.raises(OwnerTimeout):
            await link.barrier(timeout_s=0.01)
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def test_a_stopped_owner_that_is_killed_is_replaced_by_the_next_one(socket_path: Path) -> None:
    async with connecting(socket_path) as link, asyncio.timeout(60):
        with owner_process(socket_path) as first:
            await link.connected()
            epoch = link.epoch
            first.send_signal(signal.SIGSTOP)
            call = asyncio.create_task(link.call(DeleteShape("late"), timeout_s=60))
            await eventually(lambda: not link.is_connected, 30)
            first.send_signal(signal.SIGKILL)
            with pytest.raises(OwnerUnavailable):
                await call
        with owner_process(socket_path) as second:
            await eventually(lambda: link.epoch != epoch, 30)
            assert link.tables.progress["pid"] == second.pid
            assert await link.call(DeleteShape("x"), timeout_s=60) == "x"


async def test_an_owner_that_is_busy_for_long_begins_each_call_once(socket_path: Path) -> None:
    async with connecting(socket_path) as link, asyncio.timeout(60):
        with owner_process(socket_path):
            await link.connected()
            blocking = asyncio.create_task(link.call(DeleteShape("block 2"), timeout_s=60))
            await asyncio.sleep(0.05)
            calls = [asyncio.create_task(link.call(DeleteShape(str(n)), timeout_s=60)) for n in range(20)]
            assert await asyncio.gather(*calls) == [str(n) for n in range(20)]
            assert await blocking == "block 2"
            await link.connected()
            await link.barrier(timeout_s=10)
            assert link.tables.progress["begun"] == 21
            assert link.syncs == 1
