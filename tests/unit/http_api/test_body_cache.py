"""What is built once, and for how long it is kept."""

from __future__ import annotations

import pytest
from tests.support.seams.http_fakes import ITEMS, FakeHouse

from pgshapes.http_api.body_cache import ENTRY_OVERHEAD_BYTES, BodyCache, up_to_date, up_to_date_after
from pgshapes.model.offset import AFTER_SNAPSHOT

HANDLE = "17-4"


@pytest.fixture
def house() -> FakeHouse:
    house = FakeHouse()
    house.add(ITEMS, HANDLE)
    return house


def log(cache: BodyCache, house: FakeHouse, seen_lsn: int = 0) -> bytes:
    return cache.log(HANDLE, AFTER_SNAPSHOT, house.shapes[HANDLE].tail, seen_lsn).body


def test_a_closed_chunk_is_read_once_whatever_comes_after_it(house: FakeHouse) -> None:
    cache = BodyCache(house, 10_000)
    house.append(HANDLE, 50, 0, is_chunk_end=True)
    for tx in (60, 70):
        house.append(HANDLE, tx, 0)
        assert log(cache, house, seen_lsn=tx) == log(cache, house)
    assert len(house.reads) == 1


def test_an_open_piece_is_read_again_when_the_log_grows(house: FakeHouse) -> None:
    cache = BodyCache(house, 10_000)
    house.append(HANDLE, 50, 0)
    first = log(cache, house)
    assert log(cache, house) is first
    house.append(HANDLE, 60, 0)
    assert log(cache, house) != first
    assert len(house.reads) == 2


def test_a_chunk_that_closes_loses_its_end(house: FakeHouse) -> None:
    cache = BodyCache(house, 10_000)
    house.append(HANDLE, 50, 0, is_chunk_end=True)
    assert b"up-to-date" in log(cache, house)
    house.append(HANDLE, 60, 0)
    assert b"up-to-date" not in log(cache, house)


def test_what_was_not_used_for_longest_goes_first(house: FakeHouse) -> None:
    size = 100 + ENTRY_OVERHEAD_BYTES
    house.shapes[HANDLE].chunks = [b"x" * 100] * 3
    cache = BodyCache(house, 2 * size)
    for number in (0, 1, 0, 2, 0, 1):
        cache.snapshot_chunk(HANDLE, number)
    assert [read[-1] for read in house.reads] == ["0", "1", "2", "1"]


def test_a_body_larger_than_the_cache_is_served_all_the_same(house: FakeHouse) -> None:
    cache = BodyCache(house, 10)
    assert cache.snapshot_chunk(HANDLE, 0).body == cache.snapshot_chunk(HANDLE, 0).body
    assert len(house.reads) == 2


def test_the_message_at_the_end() -> None:
    assert up_to_date(7) == b'{"headers":{"control":"up-to-date","global_last_seen_lsn":"7"}}'
    assert up_to_date_after(b"", 7) == up_to_date(7)
    assert up_to_date_after(b"{}", 7) == b"{}," + up_to_date(7)
