"""Looks for the shortest list of faults that still fails; the caller runs a list and says whether it did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tests.support.torture.plan import Batch, Fault, pieces

Fails = Callable[[Sequence[Batch]], Awaitable[bool]]
"""Whether a run of these batches fails."""


async def shrunk(batches: Sequence[Batch], fails: Fails) -> list[Batch] | None:
    """Batches with as few faults as were found; None if the given ones do not fail."""
    kept = await _last_batches(batches, fails)
    if kept is None:
        return None
    for number in [batch.number for batch in kept]:
        kept = await _without_faults(kept, number, fails)
    fewer = [batch for batch in kept if batch.faults] or kept[-1:]
    return fewer if len(fewer) < len(kept) and await fails(fewer) else kept


async def _last_batches(batches: Sequence[Batch], fails: Fails) -> list[Batch] | None:
    """The fewest of the last batches that fail: one, two, four, …"""
    count = 1
    while True:
        chosen = list(batches[-count:])
        if await fails(chosen):
            return chosen
        if count >= len(batches):
            return None
        count *= 2


async def _without_faults(batches: list[Batch], number: int, fails: Fails) -> list[Batch]:
    """Leave out parts of a batch's faults, halves first, as long as it still fails."""
    count = 2
    while True:
        faults = list(next(one.faults for one in batches if one.number == number))
        if not faults:
            return batches
        count = min(count, len(faults))
        fewer = await _first_that_fails(batches, number, pieces(faults, count), fails)
        if fewer is not None:
            batches, count = fewer, max(count - 1, 2)
        elif count == len(faults):
            return batches
        else:
            count *= 2


async def _first_that_fails(
    batches: list[Batch], number: int, left_out: Sequence[Sequence[Fault]], fails: Fails
) -> list[Batch] | None:
    for piece in left_out:
        fewer = [one.without(piece) if one.number == number else one for one in batches]
        if await fails(fewer):
            return fewer
    return None
