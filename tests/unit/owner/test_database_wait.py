"""A start that waits says so at once, when the reason changes, and again and again until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from pgshapes.owner.database_wait import REPEAT_S, DatabaseWait


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


async def test_the_first_failure_and_a_new_reason_are_logged_at_once(logs: list[Any]) -> None:
    wait = DatabaseWait(repeat_s=1000)
    for reason in ("refused", "refused", "starting up", "starting up"):
        wait.note(reason)
    await wait.end()
    assert [line["reason"] for line in logs] == ["refused", "starting up"]
    assert {line["event"] for line in logs} == {"waiting for the database"}
    assert len({line["since"] for line in logs}) == 1


async def test_it_is_repeated_until_the_end(logs: list[Any]) -> None:
    wait = DatabaseWait(repeat_s=0.001)
    wait.note("refused")
    async with asyncio.timeout(10):
        while len(logs) < 3:
            await asyncio.sleep(0.001)
    await wait.end()
    count = len(logs)
    await asyncio.sleep(0.01)
    assert len(logs) == count
    assert {line["reason"] for line in logs} == {"refused"}


async def test_nothing_is_said_without_a_failure(logs: list[Any]) -> None:
    await DatabaseWait().end()
    assert logs == []
    assert REPEAT_S == 10
