"""Sharing, cancelling, `forget` and failures, counted."""

from __future__ import annotations

import asyncio

import pytest

from pgshapes.errors import NotNow, RequestError
from pgshapes.waiting.single_flight import SharedLookUps


class Catalogue:
    """Answers when the test lets it; counts look-ups."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.abandoned = 0
        self.answers: dict[str, int | Exception] = {}
        self.may_answer = asyncio.Event()
        self.now = 0.0
        self.look_ups = SharedLookUps(self._look_up, failure_ttl_s=1.0, clock=lambda: self.now)

    async def _look_up(self, key: str) -> int:
        self.asked.append(key)
        answer = self.answers.get(key, len(self.asked))
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_share_one_look_up_and_its_answer_is_kept() -> None:
    catalogue = Catalogue()
    waiting = [asyncio.create_task(catalogue.look_ups.get("a")) for _ in range(1000)]
    await turns()
    catalogue.may_answer.set()
    assert set(await asyncio.gather(*waiting)) == {1}
    assert await catalogue.look_ups.get("a") == 1
    assert catalogue.asked == ["a"]
    assert (catalogue.look_ups.made, catalogue.look_ups.shared) == (1, 999)


async def test_keys_do_not_wait_for_each_other() -> None:
    catalogue = Catalogue()
    waiting = [asyncio.create_task(catalogue.look_ups.get(key)) for key in "ab"]
    await turns()
    assert catalogue.asked == ["a", "b"]
    catalogue.may_answer.set()
    assert await asyncio.gather(*waiting) == [1, 2]


async def test_cancelling_one_waiter_does_not_affect_the_others() -> None:
    catalogue = Catalogue()
    leader, follower = (asyncio.create_task(catalogue.look_ups.get("a")) for _ in range(2))
    await turns()
    leader.cancel()
    await turns()
    catalogue.may_answer.set()
    assert await follower == 1
    assert leader.cancelled()


async def test_a_look_up_without_waiters_is_cancelled_and_made_again() -> None:
    catalogue = Catalogue()
    waiting = [asyncio.create_task(catalogue.look_ups.get("a")) for _ in range(3)]
    await turns()
    for task in waiting:
        task.cancel()
    await turns()
    assert catalogue.abandoned == 1
    catalogue.may_answer.set()
    assert await catalogue.look_ups.get("a") == 2


async def test_a_failure_answers_every_request_for_a_second() -> None:
    catalogue = Catalogue()
    catalogue.may_answer.set()
    catalogue.answers["a"] = RequestError.field("table", "no")
    for _ in range(5):
        with pytest.raises(RequestError) as refused:
            await catalogue.look_ups.get("a")
        assert refused.value.errors == {"table": ["no"]}
    assert catalogue.asked == ["a"]
    catalogue.now = 1.0
    catalogue.answers.clear()
    assert await catalogue.look_ups.get("a") == 2


async def test_an_answer_in_flight_during_forget_is_not_kept() -> None:
    catalogue = Catalogue()
    before = asyncio.create_task(catalogue.look_ups.get("a"))
    await turns()
    catalogue.look_ups.forget(lambda _key, _value: False)
    after = asyncio.create_task(catalogue.look_ups.get("a"))
    await turns()
    catalogue.may_answer.set()
    assert await before == 1
    assert await after == 2
    assert await catalogue.look_ups.get("a") == 2


async def test_a_failure_in_flight_during_forget_is_not_kept() -> None:
    catalogue = Catalogue()
    catalogue.answers["a"] = NotNow("away")
    before = asyncio.create_task(catalogue.look_ups.get("a"))
    await turns()
    catalogue.look_ups.forget()
    catalogue.may_answer.set()
    with pytest.raises(NotNow):
        await before
    catalogue.answers.clear()
    assert await catalogue.look_ups.get("a") == 2


async def test_only_what_matches_is_forgotten() -> None:
    catalogue = Catalogue()
    catalogue.may_answer.set()
    assert [await catalogue.look_ups.get(key) for key in "ab"] == [1, 2]
    catalogue.look_ups.forget(lambda key, _value: key == "a")
    assert [await catalogue.look_ups.get(key) for key in "ab"] == [3, 2]


async def test_closing_refuses_waiters() -> None:
    catalogue = Catalogue()
    waiting = asyncio.create_task(catalogue.look_ups.get("a"))
    await turns()
    await catalogue.look_ups.close()
    with pytest.raises(NotNow):
        await waiting
