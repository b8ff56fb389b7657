"""A replica always has one complete state, in any order of slices and deltas."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.errors import WireError
from pgshapes.tables.deltas import Rows
from pgshapes.tables.owner_connection import state_slices
from pgshapes.tables.replica import TablesReplica
from pgshapes.tables.tables import Tables


def replica_with(**progress: int) -> TablesReplica:
    replica = TablesReplica()
    replica.begin(0)
    replica.take_slice(Rows(progress=list(progress.items())))
    replica.finish(0, 1)
    return replica


def test_an_arriving_state_is_not_visible_before_it_is_complete() -> None:
    replica = replica_with(a=1)
    replica.begin(5)
    replica.take_slice(Rows(progress=[("b", 2)]))
    replica.take_deltas(6, Rows(progress=[("c", 3), ("b", None)]))
    assert (dict(replica.progress.items()), replica.epoch) == ({"a": 1}, 1)
    replica.finish(6, 2)
    assert (dict(replica.progress.items()), replica.epoch) == ({"c": 3}, 2)


def test_a_new_state_discards_an_incomplete_one() -> None:
    replica = replica_with(a=1)
    replica.begin(5)
    replica.take_slice(Rows(progress=[("b", 2)]))
    replica.begin(9)
    replica.finish(9, 3)
    assert dict(replica.progress.items()) == {}


async def test_replacing_the_state_wakes_every_waiter() -> None:
    replica = replica_with(a=1, b=2)
    heard: list[int | None] = []
    replica.progress.watch("b", heard.append)
    waiting = [asyncio.ensure_future(replica.progress.changed(key)) for key in "abc"]
    await asyncio.sleep(0)
    replica.begin(0)
    replica.take_slice(Rows(progress=[("a", 1)]))
    replica.finish(0, 2)
    await asyncio.gather(*waiting)
    assert heard == [None]


def test_a_missing_frame_is_detected() -> None:
    replica = replica_with()
    replica.take_deltas(1, Rows())
    with pytest.raises(WireError):
        replica.take_deltas(3, Rows())
    with pytest.raises(WireError):
        replica.take_deltas(1, Rows())


def test_an_end_without_a_beginning_is_detected() -> None:
    replica = replica_with()
    with pytest.raises(WireError):
        replica.finish(0, 9)
    with pytest.raises(WireError):
        replica.take_slice(Rows())


steps = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "send", "slice"]), st.integers(0, 700), st.integers()),
    max_size=60,
)


@given(size=st.integers(0, 700), steps=steps)
def test_a_state_sent_in_slices_while_it_changes_ends_equal(
    size: int, steps: list[tuple[str, int, int]]
) -> None:
    tables, replica, number, pending = Tables(), TablesReplica(), 0, Rows()
    for key in range(size):
        tables.progress.put(str(key), key)
    replica.begin(number)
    slices = state_slices(tables)

    def send() -> None:
        nonlocal number, pending
        number += 1
        replica.take_deltas(number, pending)
        pending = Rows()

    for step, key, value in steps:
        if step == "put":
            tables.progress.put(str(key), value)
            pending.add("progress", str(key), value)
        elif step == "remove":
            tables.progress.remove(str(key))
            pending.add("progress", str(key), None)
        elif step == "send":
            send()
        else:
            for rows in [next(slices, None)]:
                replica.take_slice(rows or Rows())
    for rows in slices:
        replica.take_slice(rows)
    send()
    replica.finish(number, 7)
    assert dict(replica.progress.items()) == dict(tables.progress.items())
