"""What a herd of requests for one table costs, and what a refusal leaves to others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs
from tests.support.seams.routing_samples import ITEMS

from pgshapes.errors import RequestError
from pgshapes.model.followable import find_obstacle
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape
from pgshapes.owner.refusal_log import RefusalLog
from pgshapes.owner.resolver import KnownRelations, ShapeResolver
from pgshapes.tables.tables import Tables
from pgshapes.waiting.single_flight import SharedLookUps

VIEW = Relation(*ITEMS._replace(oid=90_000, name="a_view", kind="v"))
TABLE = Relation(*ITEMS._replace(oid=90_001, name="a_table"))


class Inspector:
    """The system catalogs, cached as the real one does. `queries` names what was read."""

    connections = 2

    def __init__(self) -> None:
        self.stored = {one.name: one for one in (VIEW, TABLE, WIDE)}
        self.queries: list[str] = []
        self._by_name = SharedLookUps(self._look_up)

    async def relation(self, schema: str, name: str) -> Relation:
        return await self._by_name.get((schema, name))

    async def is_current(self, relation: Relation) -> bool:
        return self.stored[relation.name].stamp == relation.stamp

    async def describe(self, sql: str) -> tuple[int, ...]:
        raise AssertionError(sql)

    def clean(self, oid: int | None) -> None:
        self._by_name.forget(lambda _, relation: oid in (None, relation.oid))

    async def _look_up(self, name: tuple[str, str]) -> Relation:
        self.queries.append(name[1])
        await asyncio.sleep(0)
        return self.stored[name[1]]


COLUMNS = tuple(ITEMS.columns[0]._replace(name=f"quite_a_long_name_{number}") for number in range(300))
WIDE = Relation(*ITEMS._replace(oid=90_002, name="wide", columns=COLUMNS, primary_key=(COLUMNS[0].name,)))


@pytest.fixture
def inspector() -> Inspector:
    return Inspector()


@pytest.fixture
def resolver(inspector: Inspector) -> ShapeResolver:
    known = KnownRelations(inspector, Tables())
    return ShapeResolver(inspector, known, RefusalLog(), lambda one: find_obstacle(one, allows_no_key=True))


@contextmanager
def refused(field: str, text: str) -> Iterator[None]:
    with pytest.raises(RequestError) as caught:
        yield
    assert text in str(caught.value.errors[field])


def shape(relation: Relation, **values: object) -> RawShape:
    return RawShape(relation.schema, relation.name, **values)  # type: ignore[arg-type]


async def test_a_herd_for_a_table_that_cannot_be_followed_is_one_query(
    inspector: Inspector, resolver: ShapeResolver
) -> None:
    """At the same time, and one after another."""
    raw = shape(VIEW)
    answers = await asyncio.gather(*(resolver.resolve(raw) for _ in range(500)), return_exceptions=True)
    for _ in range(100):
        with refused("table", "it is a view"):
            await resolver.resolve(raw)
    assert all(isinstance(answer, RequestError) for answer in answers)
    assert inspector.queries == ["a_view"]


async def test_refusals_do_not_make_others_look_up_their_table_again(
    inspector: Inspector, resolver: ShapeResolver
) -> None:
    for _ in range(100):
        with refused("table", "it is a view"):
            await resolver.resolve(shape(VIEW))
        await resolver.resolve(shape(TABLE))
    assert inspector.queries == ["a_view", "a_table"]


async def test_a_cached_table_is_read_again_before_it_is_refused(
    inspector: Inspector, resolver: ShapeResolver
) -> None:
    await inspector.relation(VIEW.schema, VIEW.name)
    inspector.stored[VIEW.name] = Relation(*VIEW._replace(kind="r", stamp="later"))
    resolved = await resolver.resolve(shape(VIEW))
    assert resolved.definition.table == VIEW.name


async def test_a_table_is_read_again_before_a_column_is_refused(
    inspector: Inspector, resolver: ShapeResolver
) -> None:
    await resolver.resolve(shape(TABLE))
    for _ in range(2):
        with refused("columns", "nothing"):
            await resolver.resolve(shape(TABLE, columns=("id", "nothing")))
    assert inspector.queries == ["a_table"]
    inspector.stored[TABLE.name] = Relation(*TABLE._replace(stamp="later"))
    with refused("columns", "nothing"):
        await resolver.resolve(shape(TABLE, columns=("id", "nothing")))
    assert inspector.queries == ["a_table"] * 2


async def test_a_header_that_clients_may_refuse_is_logged_once(resolver: ShapeResolver) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            await resolver.resolve(shape(WIDE))
            await resolver.resolve(shape(WIDE, columns=(COLUMNS[0].name,)))
            await resolver.resolve(shape(TABLE))
    assert [(line["table"], line["bytes"] > 12_000) for line in lines] == [("public.wide", True)]
