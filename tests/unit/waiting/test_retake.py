"""Taken again until it is complete, with growing pauses, up to a deadline."""

from __future__ import annotations

import pytest

from pgshapes.waiting.retake import FIRST_PAUSE_S, LONGEST_PAUSE_S, retake


class Source:
    """Becomes complete with the attempt of a given number; time passes in its pauses only."""

    def __init__(self, complete_at: int | None) -> None:
        self.attempts = 0
        self.retakes = 0
        self.pauses: list[float] = []
        self._complete_at = complete_at

    async def take(self) -> bytes | None:
        self.attempts += 1
        return b"" if self.attempts == self._complete_at else None

    def count(self) -> None:
        self.retakes += 1

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)

    async def retake(self, timeout_s: float) -> bytes | None:
        return await retake(
            self.take, timeout_s, self.count, clock=lambda: sum(self.pauses), sleep=self.sleep
        )


async def test_a_complete_result_is_taken_once() -> None:
    source = Source(complete_at=1)
    assert await source.retake(10) == b""
    assert (source.attempts, source.retakes, source.pauses) == (1, 0, [])


async def test_pauses_double_up_to_the_longest() -> None:
    source = Source(complete_at=12)
    assert await source.retake(10) == b""
    doubled = [FIRST_PAUSE_S * 2**number for number in range(11)]
    assert source.pauses == [min(pause_s, LONGEST_PAUSE_S) for pause_s in doubled]
    assert (source.attempts, source.retakes) == (12, 11)


async def test_at_the_deadline_there_is_nothing() -> None:
    source = Source(complete_at=None)
    assert await source.retake(0.006) is None
    assert source.pauses == [0.001, 0.002, 0.004]
    assert (source.attempts, source.retakes) == (4, 4)


async def test_one_attempt_is_made_however_late_it_is() -> None:
    source = Source(complete_at=None)
    assert await source.retake(0) is None
    assert (source.attempts, source.retakes) == (1, 1)


async def test_what_an_attempt_raises_ends_it() -> None:
    source = Source(complete_at=None)

    async def fail() -> bytes | None:
        raise TimeoutError("of the attempt")

    with pytest.raises(TimeoutError, match="of the attempt"):
        await retake(fail, 10, source.count)
    assert source.retakes == 0
