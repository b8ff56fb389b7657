"""What a server does for its clients, each a scenario with a definition of its own.

Each is prepared first, then run; only the run is watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.support.cancellation.stage import Answer, Stage
from tests.support.clients.pending import WAIT_S

ROWS = 12


@dataclass(frozen=True)
class Definition:
    """A definition that no other run has."""

    number: int
    table: str = "items"

    @property
    def where(self) -> str:
        """The clause, which all rows of the table meet."""
        return f"id < {1000 + self.number}"

    @property
    def params(self) -> dict[str, str]:
        """The parameters of its shape."""
        return {"table": self.table, "where": self.where}

    async def first(self, stage: Stage, **more: str) -> Answer:
        """The first request."""
        return await stage.ask(**{**self.params, "offset": "-1", **more})

    async def next(self, stage: Stage, last: Answer, **more: str) -> Answer:
        """The request after another."""
        place = {name: last.headers[f"electric-{name}"] for name in ("handle", "offset")}
        return await stage.ask(**{**self.params, **place, **more})

    async def follow(self, stage: Stage) -> tuple[list[int], Answer]:
        """The ids of all rows, and the last answer. A failure answers for a second."""
        answer = await self.first(stage)
        async with asyncio.timeout(WAIT_S):
            while answer.status == 503:
                await asyncio.sleep(0.05)
                answer = await self.first(stage)
        ids = answer.ids
        while "electric-up-to-date" not in answer.headers:
            answer = await self.next(stage, answer)
            ids += answer.ids
        return sorted(set(ids)), answer


Run = Callable[[], Awaitable[object]]
Scenario = Callable[[Stage, Definition], Awaitable[Run]]


async def make_tables(stage: Stage) -> None:
    """The tables that the scenarios share, and a shape that keeps one of them published."""
    await stage.run("CREATE TABLE items (id int PRIMARY KEY, pad text DEFAULT repeat('x', 200))")
    await stage.run("CREATE TABLE others (id int PRIMARY KEY, pad text)")
    await stage.run(f"INSERT INTO items SELECT g FROM generate_series(1, {ROWS}) g")
    await Definition(1_000_000).follow(stage)


async def creation(stage: Stage, shape: Definition) -> Run:
    """The first request for a shape."""
    return lambda: shape.first(stage)


async def creation_of_changes(stage: Stage, shape: Definition) -> Run:
    """The first request for a shape without rows."""
    return lambda: shape.first(stage, offset="now", log="changes_only")


async def creation_by_two(stage: Stage, shape: Definition) -> Run:
    """Two first requests for one shape."""
    return lambda: asyncio.gather(shape.first(stage), shape.first(stage))


async def subset(stage: Stage, shape: Definition) -> Run:
    """A subset of a shape, with a POST."""
    await shape.first(stage)
    subset = {"where": "id < 5", "order_by": "id", "limit": 3}
    return lambda: stage.post(subset, **shape.params, offset="-1")


async def live(stage: Stage, shape: Definition) -> Run:
    """A held request that a change answers."""
    _, last = await shape.follow(stage)
    statement = f"UPDATE {shape.table} SET pad = 'x{shape.number}' WHERE id = 1"
    return lambda: asyncio.gather(shape.next(stage, last, live="true"), stage.run(statement))


async def stream(stage: Stage, shape: Definition) -> Run:
    """A stream of events, which ends with the shape."""
    _, last = await shape.follow(stage)

    async def run() -> None:
        events = asyncio.gather(shape.next(stage, last, live="true", live_sse="true"), return_exceptions=True)
        await stage.run(f"UPDATE {shape.table} SET pad = 's{shape.number}' WHERE id = 1")
        while (await stage.ask("DELETE", **shape.params)).status != 404:
            pass  # not if the call to the owner was cancelled
        await events

    return run


async def removal(stage: Stage, shape: Definition) -> Run:
    """A shape is deleted."""
    await shape.first(stage)
    return lambda: stage.ask("DELETE", **shape.params)


async def refusal(stage: Stage, shape: Definition) -> Run:
    """A definition that cannot be resolved, and one whose query fails."""
    return lambda: asyncio.gather(
        stage.ask(table=shape.table, offset="-1", where=f"id < {shape.number} AND nothing = 1"),
        stage.ask(table=shape.table, offset="-1", where=f"id / (id - 1) < {shape.number}"),
    )


async def truncate(stage: Stage, shape: Definition) -> Run:
    """A table is truncated while shapes of it are created."""
    await stage.run(
        f"INSERT INTO {shape.table} SELECT g, 'v' FROM generate_series(1, {ROWS}) g ON CONFLICT DO NOTHING"
    )
    await shape.first(stage, where="id < 1000000")
    return lambda: asyncio.gather(
        shape.first(stage),
        stage.run(f"TRUNCATE {shape.table}"),
        shape.first(stage, log="changes_only", offset="now"),
    )


async def first_of_table(stage: Stage, shape: Definition) -> Run:
    """The first request for a table that is not published, whose last shape is deleted then."""
    await stage.run(f"CREATE TABLE {shape.table} AS SELECT g AS id, 'v' AS pad FROM generate_series(1, 5) g")
    await stage.run(f"ALTER TABLE {shape.table} ADD PRIMARY KEY (id)")

    async def run() -> None:
        await shape.first(stage)
        await stage.ask("DELETE", **shape.params)

    return run


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        creation,
        creation_of_changes,
        creation_by_two,
        subset,
        live,
        stream,
        removal,
        refusal,
        first_of_table,
        truncate,
    )
}
"""In this order: the last one passes points of those before it by chance."""

TABLES = {"truncate": "others", "first_of_table": "fresh_{}"}
"""The tables of scenarios that have one of their own, or one for each run."""


def definition(scenario: str, number: int) -> Definition:
    """The definition of a run of a scenario."""
    return Definition(number, TABLES.get(scenario, "items").format(number))
