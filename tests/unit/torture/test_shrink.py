"""The shortest list of faults that still fails."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.torture.plan import Batch, Fault
from tests.support.torture.shrink import shrunk


def batch(number: int, *kinds: str) -> Batch:
    return Batch(number, tuple(Fault(kind, float(place), place) for place, kind in enumerate(kinds)))


def kinds(batches: Sequence[Batch]) -> list[str]:
    return [fault.kind for one in batches for fault in one.faults]


class Server:
    """Fails if all of these faults strike."""

    def __init__(self, *needed: str) -> None:
        self.needed = set(needed)
        self.runs = 0

    async def fails(self, batches: Sequence[Batch]) -> bool:
        self.runs += 1
        return self.needed <= set(kinds(batches))


RUN = [batch(1, "a", "b"), batch(2, "c", "d", "e"), batch(3, "f", "g", "h", "i", "j")]


async def test_one_fault_is_enough() -> None:
    found = await shrunk(RUN, Server("i").fails)
    assert found is not None
    assert [(one.number, kinds([one])) for one in found] == [(3, ["i"])]


async def test_faults_of_several_batches() -> None:
    found = await shrunk(RUN, Server("a", "d", "g", "j").fails)
    assert found is not None
    assert kinds(found) == ["a", "d", "g", "j"]
    assert [one.number for one in found] == [1, 2, 3]


async def test_writers_alone() -> None:
    found = await shrunk(RUN, Server().fails)
    assert found == [Batch(3, (), least_s=4.0)]


async def test_batches_without_faults_that_are_needed() -> None:
    """They are kept if leaving them out makes the list pass."""

    async def fails(batches: Sequence[Batch]) -> bool:
        return len(batches) == 3

    found = await shrunk(RUN, fails)
    assert found is not None
    assert [(one.number, kinds([one])) for one in found] == [(1, []), (2, []), (3, [])]


async def test_what_does_not_fail_again() -> None:
    server = Server("z")
    assert await shrunk(RUN, server.fails) is None
    assert server.runs == 3
