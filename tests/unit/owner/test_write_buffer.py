"""Statements are committed in their order and in groups, and none is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from pgshapes.errors import StorageError
from pgshapes.owner.catalogue import Statement, WriteBuffer, put_fact


class Disk:
    """Commits when the test lets it; fails with `failure` if it is set."""

    def __init__(self) -> None:
        self.commits: list[list[Statement]] = []
        self.may_commit = threading.Event()
        self.failure: StorageError | None = None
        self.buffer = WriteBuffer(self)

    def commit(self, statements: Sequence[Statement]) -> None:
        self.commits.append(list(statements))
        assert self.may_commit.wait(10)
        if self.failure is not None:
            raise self.failure

    async def begun(self, commits: int) -> None:
        async with asyncio.timeout(10):
            while len(self.commits) < commits:
                await asyncio.sleep(0.001)


def fact(value: bytes) -> Statement:
    return put_fact("name", value)


async def test_writes_of_one_turn_are_one_commit_and_those_during_it_the_next() -> None:
    disk = Disk()
    first = [disk.buffer.put(fact(value)) for value in (b"1", b"2")]
    await disk.begun(1)
    later = [disk.buffer.put(fact(b"3"), fact(b"4")), disk.buffer.put(fact(b"5"))]
    assert not any(write.done() for write in first)
    disk.may_commit.set()
    await asyncio.gather(*first, *later)
    assert disk.commits == [[fact(b"1"), fact(b"2")], [fact(b"3"), fact(b"4"), fact(b"5")]]
    await disk.buffer.close()


async def test_a_statement_that_is_put_again_is_executed_again() -> None:
    disk = Disk()
    disk.may_commit.set()
    await asyncio.gather(*(disk.buffer.put(fact(value)) for value in (b"1", b"2", b"1")))
    assert disk.commits == [[fact(b"1"), fact(b"2"), fact(b"1")]]
    await disk.buffer.close()


async def test_a_failure_is_that_of_its_commit_and_of_no_other() -> None:
    disk = Disk()
    disk.failure = StorageError("the disk is full")
    disk.may_commit.set()
    results = await asyncio.gather(
        *(disk.buffer.put(fact(value)) for value in (b"1", b"2")), return_exceptions=True
    )
    assert results == [disk.failure, disk.failure]
    disk.failure = None
    await disk.buffer.put(fact(b"3"))
    await disk.buffer.close()


async def test_a_failure_that_is_not_awaited_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    disk.failure = StorageError("the disk is full")
    disk.may_commit.set()
    disk.buffer.put(fact(b"1"))
    await disk.buffer.close()
    assert not caplog.records


async def test_the_statements_of_a_cancelled_writer_are_committed() -> None:
    disk = Disk()
    disk.buffer.put(fact(b"1")).cancel()
    disk.may_commit.set()
    await disk.buffer.close()
    assert disk.commits == [[fact(b"1")]]


async def test_closing_commits_what_is_queued() -> None:
    disk = Disk()
    first = disk.buffer.put(fact(b"1"))
    await disk.begun(1)
    second = disk.buffer.put(fact(b"2"))
    disk.may_commit.set()
    await disk.buffer.close()
    assert first.done() and second.done()
    assert disk.commits == [[fact(b"1")], [fact(b"2")]]
