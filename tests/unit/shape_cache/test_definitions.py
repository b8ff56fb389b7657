"""A checked definition is cached until one of its relations changes."""

from __future__ import annotations

import pytest
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape, RelationVersion
from pgshapes.shape_cache import definitions as definitions_module
from pgshapes.shape_cache.definitions import Definitions, find_changed, size_of
from pgshapes.tables.calls import Call, Reply, ResolveShape
from pgshapes.tables.link import InProcessLink
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.tables import Tables

RAW = RawShape("public", "items")
ITEMS = Relation(1, "public", "items", "r", (), ("id",), 1)
MEMBERS = Relation(2, "s", "members", "r", (), ("id",), 4)
VERSIONS = (RelationVersion(1, "public", "items", 1), RelationVersion(2, "s", "members", 4))
SHAPE = shape_of()._replace(relations=VERSIONS)


@pytest.fixture
def tables() -> Tables:
    tables = Tables()
    for relation in (ITEMS, MEMBERS):
        tables.relations.put((relation.schema, relation.name), relation)
    return tables


def test_the_first_relation_that_changed_is_found(tables: Tables) -> None:
    assert find_changed(SHAPE, tables.relations) is None
    tables.relations.put(("s", "members"), Relation(2, "s", "members", "r", (), ("id",), 5))
    assert find_changed(SHAPE, tables.relations) == VERSIONS[1]
    tables.relations.remove(("public", "items"))
    assert find_changed(SHAPE, tables.relations) == VERSIONS[0]


@pytest.mark.parametrize("name", [("public", "items"), ("s", "members")])
async def test_a_definition_is_checked_again_when_any_of_its_relations_changed(
    tables: Tables, name: tuple[str, str]
) -> None:
    calls: list[Call] = []

    async def handle(call: Call, context: CallContext) -> Reply:
        assert isinstance(call, ResolveShape)
        calls.append(call)
        return SHAPE

    link = InProcessLink(tables, handle)
    definitions = Definitions(link)
    for _ in range(3):
        assert await definitions.resolve(RAW) == SHAPE
    assert len(calls) == 1
    tables.relations.remove(name)
    await definitions.resolve(RAW)
    assert len(calls) == 2
    await link.close()


async def test_the_cache_is_bounded_in_bytes(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions_module, "_KEPT_BYTES", 100_000)

    async def handle(call: Call, context: CallContext) -> Reply:
        return SHAPE

    link = InProcessLink(tables, handle)
    definitions = Definitions(link)
    for number in range(50):
        await definitions.resolve(RAW._replace(where=f"id = {number} AND {'x' * 20_000} = 1"))
        assert definitions.kept_bytes <= 100_000
    assert len(definitions._known) == 4
    await definitions.resolve(RAW._replace(columns=tuple(f"c{number}" for number in range(1_000))))
    assert definitions.kept_bytes <= 100_000
    assert definitions._known == {} or definitions.kept_bytes > 0
    await definitions.resolve(RAW)
    assert definitions.kept_bytes == sum(size_of(raw, shape) for raw, shape in definitions._known.items())
    await link.close()
