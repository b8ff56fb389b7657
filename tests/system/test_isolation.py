"""No clause and no row ends more than its own shape, and none is left out silently."""

from __future__ import annotations

import httpx
import pytest
from tests.support.clients.materialised import Materialised
from tests.support.clients.pending import end_mark
from tests.system.conftest import Environment

NULL_CHECKS = ("j IS NULL", "j IS NOT DISTINCT FROM NULL", "id = 1 AND j IS NULL", "d IS NULL", "e IS NULL")
DEEP = "(repeat('[', 3000) || repeat(']', 3000))::jsonb"


def followed(env: Environment, table: str, *clauses: str | None) -> list[Materialised]:
    """Shapes that are up to date."""
    shapes = []
    with httpx.Client() as client:
        for where in clauses:
            params = {"table": table} if where is None else {"table": table, "where": where}
            shapes.append(Materialised(env.server.shape_url, params))
            shapes[-1].catch_up(client)
    return shapes


def follow(env: Environment, shapes: list[Materialised]) -> None:
    """Receive what is committed now; a 409 fails the test."""
    lsn = end_mark(env.sql, f"UPDATE {shapes[-1].params['table']} SET id = id")
    with httpx.Client() as client:
        for shape in shapes:
            shape.follow_until(client, lsn)


def selected(env: Environment, shape: Materialised) -> list[str]:
    """The ids that the shape must have."""
    where = shape.params.get("where", "true")
    rows = env.sql.execute(f"SELECT id::text FROM {shape.params['table']} WHERE {where} ORDER BY id")
    return [row[0] for row in rows]


def ids(shape: Materialised) -> list[str]:
    return sorted((row["id"] or "" for row in shape.rows.values()), key=int)


def test_null_checks_meet_objects_that_have_no_hash(env: Environment) -> None:
    """All shapes go on: these, and those of other tables."""
    env.sql.execute(
        "DROP TABLE IF EXISTS isolated, isolated_other; DROP DOMAIN IF EXISTS isolated_doc;"
        "CREATE DOMAIN isolated_doc AS jsonb;"
        "CREATE TABLE isolated (id int PRIMARY KEY, j jsonb, d isolated_doc, e jsonb);"
        "CREATE TABLE isolated_other (id int PRIMARY KEY)"
    )
    shapes = followed(env, "isolated", *NULL_CHECKS) + followed(env, "isolated_other", None)
    document = """'{"a": {"b": [1]}}'"""
    env.sql.execute(
        f"INSERT INTO isolated VALUES (1, {document}, {document}, NULL), (2, NULL, NULL, {document})"
    )
    env.sql.execute("INSERT INTO isolated_other VALUES (7)")
    env.sql.execute(f"UPDATE isolated SET j = NULL WHERE id = 1; UPDATE isolated SET d = {document}")
    follow(env, shapes)
    assert [ids(shape) for shape in shapes] == [selected(env, shape) for shape in shapes]
    assert httpx.get(f"{env.server.url}/v1/health").status_code == 200


@pytest.mark.parametrize("where", ["j <> '1'", "j @> '[[]]'", "NOT j ? 'a'", "j = '2' OR j -> 0 IS NOT NULL"])
def test_a_row_that_is_nested_deeply_is_in_the_shapes_that_it_matches(env: Environment, where: str) -> None:
    env.sql.execute("DROP TABLE IF EXISTS nested; CREATE TABLE nested (id int PRIMARY KEY, j jsonb)")
    shapes = followed(env, "nested", where, None)
    env.sql.execute(f"INSERT INTO nested VALUES (1, {DEEP}), (2, '2')")
    env.sql.execute(f"UPDATE nested SET j = '2' WHERE id = 1; UPDATE nested SET j = {DEEP} WHERE id = 2")
    follow(env, shapes)
    assert [ids(shape) for shape in shapes] == [selected(env, shape) for shape in shapes]


@pytest.mark.parametrize(
    "where",
    [
        " OR ".join(["j -> 'k' ->> 'x' = 'y'"] * 300),
        "id / 0 = 1",
    ],
    ids=["not read back", "division by zero"],
)
def test_a_clause_that_never_works_is_a_400(env: Environment, where: str) -> None:
    """Each time, also when its query has failed before."""
    env.sql.execute("DROP TABLE IF EXISTS asked; CREATE TABLE asked (id int PRIMARY KEY, j jsonb)")
    env.sql.execute("INSERT INTO asked VALUES (1, NULL)")
    for _ in range(3):
        params = {"table": "asked", "offset": "-1", "where": where}
        answer = httpx.get(env.server.shape_url, params=params, timeout=60)
        assert answer.status_code == 400, answer.text
        assert "where" in answer.json()["errors"]
