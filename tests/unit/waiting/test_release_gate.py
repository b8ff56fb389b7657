"""A few tasks per turn, in the order of their arrival."""

from __future__ import annotations

import asyncio

from pgshapes.waiting.release_gate import ReleaseGate


class Line:
    """Tasks that pass one gate, in the order in which they did."""

    def __init__(self, per_turn: int) -> None:
        self.passed: list[int] = []
        self._gate = ReleaseGate(per_turn)

    def send(self, count: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._pass(number)) for number in range(count)]

    async def _pass(self, number: int) -> None:
        await self._gate.wait()
        self.passed.append(number)


async def test_tasks_pass_in_their_order_a_few_per_turn() -> None:
    line = Line(per_turn=10)
    tasks = line.send(95)
    most, before = 0, 0
    while len(line.passed) < len(tasks):
        await asyncio.sleep(0)
        most, before = max(most, len(line.passed) - before), len(line.passed)
    assert most == 10
    assert line.passed == list(range(95))


async def test_a_task_that_is_cancelled_leaves_its_room_to_the_next() -> None:
    line = Line(per_turn=1)
    tasks = line.send(3)
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert line.passed == [1, 2]
