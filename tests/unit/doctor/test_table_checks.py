"""How tables and their obstacles are shown."""

from __future__ import annotations

from tests.unit.doctor.doctor_samples import NEEDS, TABLE, UNLOGGED

from pgshapes.doctor.facts import Needs
from pgshapes.doctor.finding import Finding, Mark
from pgshapes.doctor.table_facts import TableFacts
from pgshapes.doctor.tables import check_tables
from pgshapes.model.followable import Obstacle

MANUAL = NEEDS._replace(is_manual=True)


def named(table: TableFacts, needs: Needs = NEEDS) -> list[Finding]:
    return list(check_tables([table], needs._replace(tables=((table.schema, table.name),))))


def test_a_table_that_can_be_followed() -> None:
    (finding,) = named(TABLE)
    assert finding.mark is Mark.WORKS
    assert "key (id), replica identity FULL, will be published" in finding.text
    (finding,) = named(TABLE._replace(is_full=False, is_published=True))
    assert "replica identity will be set to FULL, published" in finding.text


def test_every_obstacle_has_a_line() -> None:
    other = Obstacle("must be owner of table t", "own it", ("ALTER x", "or: ALTER y"))
    first, second = named(TABLE._replace(obstacles=(UNLOGGED, other)))
    assert (first.mark, first.subject) == (Mark.FAILS, "table public.t")
    assert first.text == "it is unlogged: make it a logged table"
    assert first.sql == ('ALTER TABLE "public"."t" SET LOGGED;',)
    assert second.sql == ("ALTER x;", "-- or: ALTER y;")


def test_a_view_that_is_asked_for() -> None:
    (finding,) = named(TABLE._replace(kind="v", obstacles=(Obstacle("it is a view", "ask for tables"),)))
    assert finding.mark is Mark.FAILS


def test_a_table_that_does_not_exist() -> None:
    (finding,) = check_tables([], NEEDS._replace(tables=(("public", "Nope"),)))
    assert (finding.mark, finding.subject) == (Mark.FAILS, 'table public."Nope"')


# --- all tables


def several(count: int, *obstacles: Obstacle, kind: str = "r") -> list[TableFacts]:
    """Tables t0, t1, …; in the obstacles they have their own names."""
    return [
        TABLE._replace(
            name=f"t{number}", kind=kind, obstacles=tuple(_about(each, number) for each in obstacles)
        )
        for number in range(count)
    ]


def _about(obstacle: Obstacle, number: int) -> Obstacle:
    statements = tuple(each.replace('"t"', f'"t{number}"') for each in obstacle.statements)
    return obstacle._replace(statements=statements, reason=obstacle.reason.replace("TABLE", f"t{number}"))


def test_no_tables() -> None:
    (finding,) = check_tables([], NEEDS)
    assert finding.mark is Mark.WORKS


def test_all_tables_can_be_followed() -> None:
    found = list(check_tables(several(3), NEEDS))
    assert [finding.mark for finding in found] == [Mark.WORKS, Mark.WORKS]
    assert found[0].text == "3 of 3 tables can be followed"
    assert found[1].text == "FULL on 3 of 3 tables"


def test_few_tables_have_a_line_each() -> None:
    found = list(check_tables([TABLE, *several(3, UNLOGGED)], NEEDS))
    assert [finding.subject for finding in found[2:]] == [f"table public.t{number}" for number in range(3)]
    assert {finding.mark for finding in found[2:]} == {Mark.FAILS}


def test_no_table_at_all_can_be_followed() -> None:
    summary, *_ = check_tables(several(2, UNLOGGED), NEEDS)
    assert (summary.mark, summary.text) == (Mark.FAILS, "0 of 2 tables can be followed")


def test_many_tables_with_one_cause_share_a_line() -> None:
    *_, shared = check_tables([TABLE, *several(20, UNLOGGED)], NEEDS)
    assert shared.subject == "20 tables"
    assert "public.t9 and 10 more" in shared.text
    assert len(shared.sql) == 11 and "10 more" in shared.sql[-1]


def test_a_cause_that_names_the_table_is_one_cause() -> None:
    for named_as in ("table TABLE", '"public.TABLE"', '"public"."TABLE"'):
        obstacle = Obstacle(f"must be owner of {named_as}", "own it", ("GRANT a TO b",))
        *_, shared = check_tables(several(5, obstacle), NEEDS)
        assert shared.subject == "5 tables"
        assert "must be owner of" in shared.text and "t0" in shared.text
        assert shared.sql == ("GRANT a TO b;",)


def test_views_are_a_warning_if_nobody_asked_for_them() -> None:
    *_, views = check_tables([TABLE, *several(2, UNLOGGED, kind="v")], NEEDS)
    assert (views.mark, views.subject) == (Mark.WARNS, "views")
    assert "public.t0, public.t1" in views.text


def test_published_tables_only_if_they_are_published_by_hand() -> None:
    tables = [TABLE._replace(is_published=True), *several(2, UNLOGGED)]
    left_out, summary, _ = check_tables(tables, MANUAL)
    assert left_out.text.startswith("2 tables not in the publication")
    assert summary.text == "1 of 1 table can be followed"
