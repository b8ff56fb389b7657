"""Which tables are said to be followable, and why others are not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.doctor.doctor_samples import FACTS, NEEDS, PART, PUBLICATION, SERVER, TABLE

from pgshapes.doctor.facts import Facts, Needs
from pgshapes.doctor.finding import Finding, Mark
from pgshapes.doctor.table_facts import TableFacts, VirtualColumn
from pgshapes.doctor.tables import check_tables

MANUAL = NEEDS._replace(is_manual=True)
NOT_FULL = PART._replace(is_full=False)
THEIRS = NOT_FULL._replace(is_ours=False)


def named(table: TableFacts, facts: Facts = FACTS, needs: Needs = NEEDS) -> list[Finding]:
    return list(check_tables([table], facts, needs._replace(tables=((table.schema, table.name),))))


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE._replace(parts=(NOT_FULL,)),
        TABLE._replace(kind="p", parts=(PART._replace(kind="p"), PART._replace(name="t1"))),
        TABLE._replace(is_ours=False, is_published=True, parts=(PART._replace(is_ours=False),)),
    ],
)
def test_tables_that_can_be_followed(table: TableFacts) -> None:
    (finding,) = named(table)
    assert finding.mark is Mark.WORKS


@pytest.mark.parametrize(
    ("changed", "text", "statement"),
    [
        ({"kind": "v"}, "is a view", None),
        ({"kind": "m"}, "is a materialised view", None),
        ({"kind": "f"}, "is a foreign table", None),
        ({"is_system": True, "schema": "pg_catalog"}, "belongs to Postgres", None),
        ({"persistence": "t"}, "is temporary", None),
        ({"persistence": "u"}, "is unlogged", 'ALTER TABLE "public"."t" SET LOGGED;'),
        ({"is_inherited": True}, "inherit from it", None),
        ({"key": ()}, "no primary key", 'ALTER TABLE "public"."t" ADD COLUMN id'),
        ({"key": (), "kind": "p"}, "partitioned and has no primary key", "ADD PRIMARY KEY"),
        (
            {"key": (), "deferrable_key": ("t_pkey", "PRIMARY KEY (id)")},
            "deferrable",
            'DROP CONSTRAINT "t_pkey", ADD CONSTRAINT "t_pkey" PRIMARY KEY (id);',
        ),
        (
            {"virtual_columns": (VirtualColumn("b", "integer", "id * 2"),)},
            "virtual generated column (b)",
            'DROP COLUMN "b", ADD COLUMN "b" integer GENERATED ALWAYS AS (id * 2) STORED;',
        ),
        ({"may_use_schema": False}, "schema", 'GRANT USAGE ON SCHEMA "public" TO "sync";'),
        ({"may_select": False}, "may not be read", 'GRANT SELECT ON "public"."t" TO "sync";'),
        ({"has_row_security": True}, "row-level security", "NO FORCE ROW LEVEL SECURITY;"),
        (
            {"has_row_security": True, "is_ours": False, "is_published": True},
            "row-level security",
            'ALTER ROLE "sync" BYPASSRLS;',
        ),
        ({"is_partly_published": True}, "row filter or a column list", "DROP TABLE"),
        ({"is_ours": False, "owner": "web"}, "owned by web", 'GRANT "web" TO "sync";'),
        (
            {"is_ours": False, "owner": "postgres", "is_owner_superuser": True},
            "owned by postgres",
            'ALTER TABLE "public"."t" OWNER TO "sync";',
        ),
        (
            {"kind": "p", "parts": (PART, PART._replace(name="f1", kind="f"))},
            "partition that is a foreign table (f1)",
            'DETACH PARTITION "public"."f1";',
        ),
        (
            {"kind": "p", "parts": (PART, PART._replace(name="u1", persistence="u"))},
            "partition that is unlogged (u1)",
            'ALTER TABLE "public"."u1" SET LOGGED;',
        ),
        (
            {"kind": "p", "parts": (PART, THEIRS._replace(name="o1"))},
            "partitions with other owners (o1)",
            'ALTER TABLE "public"."o1" OWNER TO "sync";',
        ),
    ],
)
def test_tables_that_cannot_be_followed(changed: dict[str, Any], text: str, statement: str | None) -> None:
    (finding,) = named(TABLE._replace(**changed))
    assert finding.mark is Mark.FAILS
    assert text in finding.text
    assert (statement is None) == (finding.sql == ())
    if statement is not None:
        assert statement in finding.sql[0]


def test_every_reason_is_named() -> None:
    table = TABLE._replace(persistence="u", may_select=False, is_ours=False)
    assert len(named(table)) == 3


def test_a_generated_column_that_the_publication_leaves_out() -> None:
    table = TABLE._replace(has_stored_columns=True)
    without = FACTS._replace(publication=PUBLICATION._replace(publishes_generated=False))
    on_18 = without._replace(server=SERVER._replace(version_number=180000))
    assert named(table, without)[0].mark is Mark.WORKS
    assert "publish_generated_columns = stored" in named(table, on_18)[0].sql[0]
    assert named(table, on_18._replace(publication=None))[0].mark is Mark.WORKS


def test_what_has_to_be_done_by_hand() -> None:
    table = TABLE._replace(is_ours=False, parts=(THEIRS, THEIRS._replace(name="t1")))
    published, identity = named(table, needs=MANUAL)
    assert published.sql == ('ALTER PUBLICATION "electric_publication_default" ADD TABLE "public"."t";',)
    assert identity.sql == (
        'ALTER TABLE "public"."t" REPLICA IDENTITY FULL;',
        'ALTER TABLE "public"."t1" REPLICA IDENTITY FULL;',
    )
    done = TABLE._replace(is_ours=False, is_published=True)
    assert named(done, needs=MANUAL)[0].mark is Mark.WORKS


def test_a_table_that_does_not_exist() -> None:
    (finding,) = check_tables([], FACTS, NEEDS._replace(tables=(("public", "Nope"),)))
    assert (finding.mark, finding.subject) == (Mark.FAILS, 'table public."Nope"')


# --- all tables


def named_like(count: int, **changed: Any) -> list[TableFacts]:
    return [TABLE._replace(name=f"t{number}", **changed) for number in range(count)]


def test_no_tables() -> None:
    (finding,) = check_tables([], FACTS, NEEDS)
    assert finding.mark is Mark.WORKS


def test_all_tables_can_be_followed() -> None:
    found = list(check_tables(named_like(3), FACTS, NEEDS))
    assert [finding.mark for finding in found] == [Mark.WORKS, Mark.WORKS]
    assert found[0].text == "3 of 3 tables can be followed"
    assert found[1].text == "FULL on 3 of 3 tables"


def test_few_tables_have_a_line_each() -> None:
    found = list(check_tables([TABLE, *named_like(3, persistence="u")], FACTS, NEEDS))
    assert [finding.subject for finding in found[2:]] == [f"table public.t{number}" for number in range(3)]


def test_many_tables_with_one_problem_share_a_line() -> None:
    found = list(check_tables([TABLE, *named_like(20, persistence="u")], FACTS, NEEDS))
    *_, shared = found
    assert shared.subject == "20 tables"
    assert "public.t9 and 10 more" in shared.text
    assert len(shared.sql) == 11 and "10 more" in shared.sql[-1]


def test_one_cure_for_many_tables_is_printed_once() -> None:
    found = list(check_tables(named_like(20, is_ours=False, owner="web"), FACTS, NEEDS))
    assert found[0].mark is Mark.FAILS
    assert found[-1].sql == ('GRANT "web" TO "sync";',)


def test_views_are_a_warning_if_nobody_asked_for_them() -> None:
    *_, views = check_tables([TABLE, *named_like(2, kind="v")], FACTS, NEEDS)
    assert (views.mark, views.subject) == (Mark.WARNS, "views")
    assert "public.t0, public.t1" in views.text


def test_published_tables_only_if_they_are_published_by_hand() -> None:
    tables = [TABLE._replace(is_published=True), *named_like(2, persistence="u")]
    left_out, summary, _ = check_tables(tables, FACTS, MANUAL)
    assert left_out.text.startswith("2 tables not in the publication")
    assert summary.text == "1 of 1 table can be followed"
