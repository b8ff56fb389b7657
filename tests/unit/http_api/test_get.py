"""GET `/v1/shape`, request by request: what is served, what is refused, what the headers say."""

from __future__ import annotations

from tests.http_fakes import CHUNK, ITEMS, Client, FakeHouse

HANDLE = "17-4"


async def test_the_first_request_gets_the_first_chunk() -> None:
    house = FakeHouse()
    house.add(ITEMS, HANDLE)
    answer = await Client(house).get({"table": "items", "offset": "-1"})
    assert answer.status == 200
    assert answer.body == CHUNK
    assert answer.headers["electric-handle"] == HANDLE
    assert answer.headers["electric-offset"] == "0_0"
