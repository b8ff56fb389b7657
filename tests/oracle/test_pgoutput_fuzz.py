"""A small part of the messages of `pgoutput_fuzz`."""

from __future__ import annotations

from tests.oracle.pgoutput_fuzz import fuzz, summary
from tests.support.wire.recording import record

MESSAGES = 2_000


async def test_mutated_messages_are_processed_or_end_what_they_name(database_url: str) -> None:
    made = await fuzz(await record(database_url), 1, MESSAGES)
    assert not made.violations, summary(made)
    assert made.mutated >= MESSAGES and made.sessions > 50
    assert made.outcomes["processed to the end"] > 10, summary(made)
    assert made.shape_errors["WireError"] > 50, summary(made)
    ended_at = [what for what in made.outcomes if "pgoutput message" in what or "relation" in what]
    assert len(ended_at) > 5, summary(made)
