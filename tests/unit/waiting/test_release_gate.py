"""A few tasks per turn, in the order of their arrival."""

from __future__ import annotations

import asyncio

from pgshapes.waiting.release_gate import ReleaseGate


class PassingTasks:
    """Tasks that pass one gate; `passed` has their numbers in the order in which they passed."""

    def __init__(self, per_turn: int) -> None:
        self.passed: list[int] = []
        self._gate = ReleaseGate(per_turn)

    def begin(self, count: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._pass(number)) for number in range(count)]

    async def _pass(self, number: int) -> None:
        await self._gate.wait()
        self.passed.append(number)


async def test_tasks_pass_in_their_order_a_few_per_turn() -> None:
    passing = PassingTasks(per_turn=10)
    tasks = passing.begin(95)
    most, before = 0, 0
    while len(passing.passed) < len(tasks):
        await asyncio.sleep(0)
        most, before = max(most, len(passing.passed) - before), len(passing.passed)
    assert most == 10
    assert passing.passed == list(range(95))


async def test_a_cancelled_task_lets_the_next_one_pass() -> None:
    passing = PassingTasks(per_turn=1)
    tasks = passing.begin(3)
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert passing.passed == [1, 2]
