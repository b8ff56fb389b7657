"""Which connection makes room for a new one."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.support.servers.front_door import GET, App, front_door

from pgshapes.gates.shares import may_take
from pgshapes.server.connections import Connections


class Fake:
    def __init__(self, client_key: str | None = None, *, is_answering: bool = False) -> None:
        self.client_key = client_key
        self.is_answering = is_answering
        self.is_evicted = False

    def evict(self) -> None:
        self.is_evicted = True


def opened(connections: Connections, number: int, key: str | None, *, is_answering: bool) -> list[Fake]:
    made = [Fake(key, is_answering=is_answering) for _ in range(number)]
    for each in made:
        assert connections.open(each)
        if is_answering:
            connections.end_head(each)
    return made


def test_the_oldest_silent_one_makes_room() -> None:
    connections = Connections(4)
    busy = opened(connections, 2, None, is_answering=True)
    silent = opened(connections, 2, None, is_answering=False)
    newer = opened(connections, 3, None, is_answering=False)
    assert [each.is_evicted for each in (*busy, *silent, *newer)] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert len(connections) == 4


def test_an_idle_one_makes_room() -> None:
    connections = Connections(3)
    first, idle, last = opened(connections, 3, None, is_answering=True)
    idle.is_answering = False
    assert connections.open(Fake())
    assert (first.is_evicted, idle.is_evicted, last.is_evicted) == (False, True, False)


def test_no_answer_is_cut_short() -> None:
    connections = Connections(3)
    busy = opened(connections, 3, None, is_answering=True)
    assert not connections.open(Fake())
    assert not any(each.is_evicted for each in busy)
    assert (connections.refused, connections.evicted, len(connections)) == (1, 0, 3)


def test_a_client_alone_has_three_quarters() -> None:
    connections = Connections(100)
    opened(connections, 75, "a", is_answering=True)
    assert not connections.open(Fake("a"))
    assert connections.open(Fake("b"))


def test_past_its_share_a_client_takes_its_own_places() -> None:
    connections = Connections(8)
    own = opened(connections, 6, "a", is_answering=False)
    other = opened(connections, 1, "b", is_answering=False)
    assert connections.open(Fake("a"))
    assert [each.is_evicted for each in own] == [True, *[False] * 5]
    assert not other[0].is_evicted


def test_a_new_client_finds_room_where_the_unknown_hold_everything() -> None:
    connections = Connections(8)
    held = opened(connections, 8, None, is_answering=False)
    assert connections.open(Fake("a"))
    assert held[0].is_evicted


@pytest.mark.parametrize("clients", [1, 2, 5, 24])
def test_greedy_clients_leave_room(clients: int) -> None:
    limit, held, progress = 1_000, [0] * clients, True
    while progress:
        progress = False
        for number in range(clients):
            if may_take(held[number], sum(held), limit):
                held[number] += 1
                progress = True
    assert sum(held) < limit, "a client that holds nothing finds a place"
    assert may_take(0, sum(held), limit)
    assert max(held) - min(held) <= 1


def test_closing_twice() -> None:
    connections = Connections(3)
    one = opened(connections, 1, "a", is_answering=False)[0]
    connections.close(one)
    connections.close(one)
    assert len(connections) == 0


async def test_a_flood_of_silent_connections() -> None:
    """Each new connection is answered, however many are silent; descriptors are not used up."""
    async with front_door(limit=10) as door:
        flood = [await door.connect() for _ in range(50)]
        for _ in range(5):
            client = await door.connect()
            client.send(GET)
            assert (await client.answer())[0] == 200
        assert len(door.connections) <= 10
        assert await flood[0].is_closed()


async def test_a_connection_too_many() -> None:
    app = App()
    app.hold = asyncio.Event()
    async with front_door(app, limit=2) as door:
        held = [await door.connect() for _ in range(2)]
        for client in held:
            client.send(GET)
        await door.until(lambda: app.at_once == 2)
        late = await door.connect()
        assert (await late.answer())[0] == 503
        app.hold.set()
        for client in held:
            assert (await client.answer())[0] == 200


async def test_clients_by_their_address() -> None:
    async with front_door(trusts=False, limit=8) as door:
        for _ in range(20):
            client = await door.connect()
        client.send(GET)
        assert (await client.answer())[0] == 200
        other = socket.socket()
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", door.port))
        await door.until(lambda: len(door.connections) == 7)
        other.close()
