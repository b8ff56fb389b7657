"""Which frames are sent to feeds, and how long their acknowledgement is waited for."""

from __future__ import annotations

import asyncio

import pytest

from pgshapes.tables import frames
from pgshapes.tables.required_version import NUMBER
from pgshapes.tables.tables import Tables


class RecordingFeed:
    """A feed that records frames, and acknowledges when the test lets it."""

    def __init__(self, tables: Tables) -> None:
        self.is_live = True
        self.acknowledged = tables.broadcast.number
        self.sent: list[frames.Deltas] = []
        self.cuts = 0
        self._tables = tables
        tables.broadcast.attach(self)

    def send(self, frame: bytes) -> None:
        (payload,) = frames.FrameSplitter().feed(frame)
        decoded = frames.decode_owner_frame(payload)
        assert isinstance(decoded, frames.Deltas)
        self.sent.append(decoded)

    def cut(self) -> None:
        self.cuts += 1
        self._tables.broadcast.detach(self)

    def acknowledge_all(self) -> None:
        self.acknowledged = self.sent[-1].number
        self._tables.broadcast.note_progress()


@pytest.fixture
def tables() -> Tables:
    return Tables()


async def test_the_changes_of_a_loop_turn_are_sent_in_one_frame(tables: Tables) -> None:
    feed = RecordingFeed(tables)
    tables.progress.put("a", 1)
    with tables.transaction():
        tables.handles.put(b"c", "h")
        tables.progress.put("a", 2)
    tables.progress.remove("a")
    assert feed.sent == []
    await asyncio.sleep(0)
    (frame,) = feed.sent
    assert frame.rows.progress == [("a", 1), ("a", 2), ("a", None)]
    assert frame.rows.handles == [(b"c", "h")]


async def test_frames_are_numbered_without_a_gap_and_alike_for_all_feeds(tables: Tables) -> None:
    first, start = RecordingFeed(tables), tables.broadcast.number
    tables.progress.put("a", 1)
    second = RecordingFeed(tables)
    for value in range(3):
        tables.progress.put("a", value)
        tables.broadcast.flush()
    assert [frame.number - start for frame in first.sent] == [1, 2, 3, 4]
    assert second.sent == first.sent[1:]


async def test_a_burst_is_sent_completely_in_few_frames(tables: Tables) -> None:
    feed = RecordingFeed(tables)
    for value in range(1, 51):
        tables.progress.put("a", value)
        await asyncio.sleep(0)
    await tables.acknowledged()
    assert 1 <= len(feed.sent) < 50
    assert tables.progress["a"] == 50


async def test_a_detached_feed_is_sent_nothing_more(tables: Tables) -> None:
    feed = RecordingFeed(tables)
    tables.broadcast.detach(feed)
    tables.progress.put("a", 1)
    await asyncio.sleep(0)
    assert feed.sent == []


async def test_without_feeds_nothing_is_collected(tables: Tables) -> None:
    for value in range(100):
        tables.progress.put("a", value)
    feed = RecordingFeed(tables)
    await asyncio.sleep(0)
    assert feed.sent == []


def test_tables_can_be_filled_before_there_is_a_loop(tables: Tables) -> None:
    tables.progress.put("a", 1)
    assert tables.progress["a"] == 1


async def test_acknowledged_sends_at_once_and_waits_for_all(tables: Tables) -> None:
    feeds = [RecordingFeed(tables) for _ in range(3)]
    tables.progress.put("a", 1)
    waiting = asyncio.ensure_future(tables.acknowledged())
    await asyncio.sleep(0)
    for feed in feeds:
        assert not waiting.done()
        feed.acknowledge_all()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await waiting
    assert not any(feed.cuts for feed in feeds)


async def test_acknowledged_does_not_wait_for_a_detached_feed(tables: Tables) -> None:
    feed = RecordingFeed(tables)
    tables.progress.put("a", 1)
    waiting = asyncio.ensure_future(tables.acknowledged())
    await asyncio.sleep(0)
    tables.broadcast.detach(feed)
    await waiting
    assert tables.broadcast.late_feeds == 0


async def test_a_feed_that_does_not_acknowledge_in_time_is_not_waited_for_again(tables: Tables) -> None:
    """Its process serves nothing until it has caught up; to cut its link would end the calls under way."""
    good, bad = RecordingFeed(tables), RecordingFeed(tables)
    for change in range(3):
        tables.progress.put("a", change)
        waiting = asyncio.ensure_future(tables.acknowledged())
        await asyncio.sleep(0)
        good.acknowledge_all()
        await waiting
        assert (good.cuts, bad.cuts) == (0, 0)
        assert tables.broadcast.late_feeds == 1
        assert tables.required[NUMBER] == tables.broadcast.number
    bad.acknowledge_all()
    tables.progress.put("a", 4)
    waiting = asyncio.ensure_future(tables.acknowledged())
    await asyncio.sleep(0)
    good.acknowledge_all()
    await asyncio.sleep(0)
    assert not waiting.done(), "it has caught up"
    bad.acknowledge_all()
    await waiting
    assert tables.broadcast.late_feeds == 1


async def test_a_feed_that_still_gets_the_state_is_not_waited_for(tables: Tables) -> None:
    feed = RecordingFeed(tables)
    feed.is_live = False
    tables.progress.put("a", 1)
    await tables.acknowledged()
    assert feed.cuts == 0


async def test_nothing_new_needs_no_acknowledgement(tables: Tables) -> None:
    feed = RecordingFeed(tables)
    await tables.acknowledged()
    assert feed.sent == [] and feed.cuts == 0


async def test_without_notices_no_task_is_woken(tables: Tables) -> None:
    quiet = Tables(has_notices=False)
    heard: list[int | None] = []
    quiet.progress.watch("a", heard.append)
    waiting = asyncio.ensure_future(quiet.progress.changed("a"))
    await asyncio.sleep(0)
    quiet.progress.put("a", 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done() and heard == []
    assert quiet.progress["a"] == 1
    waiting.cancel()
