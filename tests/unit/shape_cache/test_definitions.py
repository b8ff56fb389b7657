"""A checked definition is cached until one of its relations changes."""

from __future__ import annotations

import pytest
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.errors import OwnerUnavailable
from pgshapes.model.relation import Column, Relation
from pgshapes.model.shape import RawShape, RelationVersion
from pgshapes.postgres.definition import resolved_shape
from pgshapes.shape_cache import definitions as definitions_module
from pgshapes.shape_cache.definitions import Definitions, find_changed, size_of
from pgshapes.tables.calls import Call, Reply, ResolveShape
from pgshapes.tables.link import InProcessLink
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.tables import Tables
from pgshapes.where.clause import prepare_clause

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


ID = Column("id", 23, "int4", "b", -1, 0, None, True, 0, False)
NAME = Column("name", 25, "text", "b", -1, 0, None, False, None, False, collation="C")
KNOWN = Relation(1, "public", "items", "r", (ID, NAME), ("id",), 1)


class AwayLink(InProcessLink):
    """A link whose owner is away."""

    is_connected = is_following = False

    async def call(self, call: Call, *, timeout_s: float) -> Reply:
        raise OwnerUnavailable("away")

    async def connected(self) -> None:
        raise TimeoutError


@pytest.mark.parametrize(
    ("raw", "is_known"),
    [
        (RAW._replace(where="id > 5 and name = 'a'"), True),
        (RAW._replace(where="((id)) > 5 AND name = $1", params=(("1", "a"),)), True),
        (RAW._replace(where="id > 6 and name = 'a'"), False),
        (RAW._replace(where="id > 5 and name ="), False),
        (RAW._replace(where="id > 5 and name = 'a'", columns=("id",)), False),
        (RAW._replace(where="id > 5 and name = 'a'", queryable_columns=("name",)), False),
        (RAW._replace(where="id > 5 and name = 'a'", replica="full"), False),
        (RAW._replace(table="others", where="id > 5 and name = 'a'"), False),
    ],
)
async def test_without_an_owner_a_definition_is_checked_by_the_shapes_that_are_known(
    raw: RawShape, is_known: bool
) -> None:
    tables = Tables()
    tables.relations.put(("public", "items"), KNOWN)
    clause = prepare_clause("id > 5 and name = 'a'", {}, KNOWN)
    shape = resolved_shape(RAW, KNOWN, ("id", "name"), clause.sql)
    tables.handles.put(shape.comparable, "h")
    definitions = Definitions(AwayLink(tables, lambda *_: pytest.fail("it is away")))
    if is_known:
        assert await definitions.resolve(raw) == shape
        tables.handles.remove(shape.comparable)
        tables.relations.remove(("public", "items"))
    with pytest.raises(OwnerUnavailable):
        await definitions.resolve(raw)
