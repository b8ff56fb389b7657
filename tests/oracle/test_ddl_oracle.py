"""500 seeded statements of a database's owner: no client has a wrong row, and few refetch without need."""

from __future__ import annotations

import inspect
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.oracle.ddl.catalog import Catalog, Column, Table
from tests.oracle.ddl.follower import Observed, Record, Refetched
from tests.oracle.ddl.grammar import MODULES
from tests.oracle.ddl.judge import Judge, Timeline
from tests.oracle.ddl.rules import RULES, Permission, Reach, filled_columns, newly_virtual
from tests.oracle.ddl.shapes import Expected, Shape
from tests.oracle.ddl.statements import Kind, Statement, control
from tests.oracle.ddl.world import running_world
from tests.oracle.ddl_oracle import FREQUENT, Plan, run_random

from pgshapes.embedded.server import EmbeddedPostgres

STATEMENTS = 500
_SEED = int(os.environ.get("PGSHAPES_ORACLE_SEED", "20"))
MOST_UNRULED = 0.05
"""Of a few hundred refetches; a long run must have less than 2 %."""
DEADLINE_S = 60.0
"""Much more than the server needs: nothing here measures time."""


@pytest.mark.slow
def test_random_statements(postgres_server: EmbeddedPostgres, database_url: str, tmp_path: Path) -> None:
    """After each step every client has the rows of a SELECT, or was told to fetch them again and has them."""
    journal = tmp_path / "journal.jsonl"
    plan = Plan(_SEED, STATEMENTS, postgres_server.version, ends_with_a_violation=True)
    with running_world(database_url, journal, module=FREQUENT, deadline_s=DEADLINE_S) as world:
        totals = run_random(world, plan)
    print(f"seed {_SEED}, journal {journal}\n{totals.report()}")
    assert totals.failure is None
    assert totals.unruled_share <= MOST_UNRULED
    assert totals.observed > STATEMENTS


def test_what_a_server_has_not_told_is_seen(database_url: str, tmp_path: Path) -> None:
    """A follower is wrong as long as its server stands still, and right afterwards."""
    with running_world(database_url, tmp_path / "journal", module=FREQUENT, deadline_s=DEADLINE_S) as world:
        assert world.server.process is not None
        assert world.run(0, Statement(Kind.CREATE_TABLE, "CREATE TABLE alpha.t (id integer PRIMARY KEY)"))
        follower = world.follow(Shape("alpha.t"))
        world.settle()
        world.server.process.send_signal(signal.SIGSTOP)
        assert world.run(0, Statement(Kind.DML, "INSERT INTO alpha.t VALUES (1)", ("alpha.t",)))
        assert world.problem(follower) == "rows differ"
        world.server.process.send_signal(signal.SIGCONT)
        world.settle()
        assert world.run(0, Statement(Kind.DROP_TABLE, "DROP TABLE alpha.t", ("alpha.t",)))
        assert world.problem(follower) == "not refused"
        world.settle()
        assert not world.judge.totals.violations
        assert world.problem(follower) is None


def test_late_is_not_wrong(database_url: str, tmp_path: Path) -> None:
    """A follower that is right only after the deadline is reported as late."""
    with running_world(database_url, tmp_path / "journal", module=FREQUENT, deadline_s=0.0) as world:
        assert world.server.process is not None
        assert world.run(0, Statement(Kind.CREATE_TABLE, "CREATE TABLE alpha.t (id integer PRIMARY KEY)"))
        world.follow(Shape("alpha.t"))
        world.settle()
        world.server.process.send_signal(signal.SIGSTOP)
        assert world.run(0, Statement(Kind.DML, "INSERT INTO alpha.t VALUES (1)", ("alpha.t",)))
        resume = threading.Timer(0.1, world.server.process.send_signal, (signal.SIGCONT,))
        resume.start()
        world.settle()
        resume.join()
        totals = world.judge.totals
        assert "rows differ" in [one.what for _, one in totals.late]
        assert not totals.violations


def test_only_what_is_very_late_fails_a_run() -> None:
    """And the wrong rows."""
    judge = Judge()
    judge.be_late("rows differ", Shape("alpha.t"), 10.0)
    assert judge.totals.failure is None
    judge.be_late("rows differ", Shape("alpha.t"), 40.0)
    assert judge.totals.failure == "late followers 2, longest 40.0 s"
    judge.violate("rows differ", None, "")
    assert judge.totals.failure is not None and judge.totals.failure.startswith("rows differ")


ADD_TABLE, UPDATE = "ALTER PUBLICATION {} ADD TABLE alpha.t", "UPDATE alpha.t SET id = 2"


def test_what_fails_by_the_owners_own_doing(database_url: str, tmp_path: Path) -> None:
    """Also in the transaction that has done it, but not after it was rolled back, nor without it."""
    with running_world(database_url, tmp_path / "journal", module=FREQUENT) as world:
        publication, violations = world.server.publication, world.judge.totals.violations
        join = Statement(Kind.PUBLICATION_JOIN, ADD_TABLE.format(publication), ("alpha.t",))
        update = Statement(Kind.DML, UPDATE, ("alpha.t",))
        assert world.run(0, Statement(Kind.CREATE_TABLE, "CREATE TABLE alpha.t (id integer)"))
        assert world.run(0, Statement(Kind.DML, "INSERT INTO alpha.t VALUES (1)", ("alpha.t",)))
        for statement, runs in ((control("BEGIN"), True), (join, True), (update, False)):
            assert world.run(0, statement) is runs
        assert world.run(0, control("ROLLBACK"))
        assert not violations
        with psycopg.connect(database_url, autocommit=True) as another:
            another.execute(join.sql.encode())
        assert not world.run(0, update)
        assert [one.what for one in violations] == ["a statement of the owner fails"]


def test_every_kind_has_a_rule_and_a_form() -> None:
    """And each reach is used by some."""
    assert RULES.keys() == set(Kind)
    assert set(RULES.values()) == set(Reach)
    forms = "".join(inspect.getsource(module) for module in MODULES)
    unused = {kind for kind in Kind if f"Kind.{kind.name}," not in forms}
    assert unused == {Kind.CONTROL, Kind.DML, Kind.MIGRATION}


T = frozenset({"alpha.t"})
ROWS_1, ROWS_2, ROWS_3 = (frozenset({(("id", str(number)),)}) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("reach", "shape", "is_permitted"),
    [
        (Reach.TABLE, Shape("alpha.t", ("id",)), True),
        (Reach.TABLE, Shape("alpha.other"), False),
        (Reach.EVERYBODY, Shape("alpha.other"), True),
        (Reach.NOBODY, Shape("alpha.t"), False),
        (Reach.UNLISTED, Shape("alpha.t"), True),
        (Reach.UNLISTED, Shape("alpha.t", ("id", "a")), False),
        (Reach.COLUMNS, Shape("alpha.t"), True),
        (Reach.COLUMNS, Shape("alpha.t", ("id", "a")), True),
        (Reach.COLUMNS, Shape("alpha.t", ("id", "b")), False),
        (Reach.COLUMNS, Shape("alpha.t", ("id", "b"), "a > 1", ("a",)), True),
    ],
)
def test_a_permission_is_column_precise(reach: Reach, shape: Shape, is_permitted: bool) -> None:
    """Of the statement's own tables and columns only."""
    permission = Permission(1.0, Kind.RETYPE, reach, T, frozenset({"a"}))
    assert permission.concerns(shape) is is_permitted


def table(oid: int, *columns: Column) -> Table:
    return Table(oid, "alpha", f"t{oid}", "r", False, "f", False, (), None, (), columns, (), ())


PLAIN = Column("a", "integer", "b", None, False, "", True, False, 23)


def test_changes_of_a_table_that_no_statement_tells() -> None:
    """Defaults that a rewrite has stored, and columns that are virtual."""
    missing, virtual = replace(PLAIN, has_missing=True), replace(PLAIN, generated="v")
    before = Catalog({1: table(1, missing), 2: table(2, missing), 3: table(3, PLAIN)})
    after = Catalog({1: table(1, PLAIN), 2: table(2, missing), 3: table(3, virtual), 4: table(4, virtual)})
    assert filled_columns(before, after) == {1: {"a"}}
    assert newly_virtual(before, after) == {3}


@pytest.mark.parametrize(("began", "is_permitted"), [(0.5, True), (1.5, False)])
def test_a_writer_that_is_older_than_a_change_of_a_type_ends_shapes(began: float, is_permitted: bool) -> None:
    """Also those that were born after it."""
    judge, shape = Judge(), Shape("alpha.t")
    judge.permit(
        [Permission(1.0, Kind.ENUM_RENAME, Reach.TABLE, T), Permission(1.0, Kind.RETYPE, Reach.TABLE, T)]
    )
    judge.permit_again(began, 3.0)
    permission = judge.permission(shape, 2.0)
    assert (permission.kind if permission else None) is (Kind.ENUM_RENAME if is_permitted else None)


def judged(*observed: frozenset[tuple[tuple[str, str], ...]]) -> list[str]:
    """The violations of a follower that had these rows, of a table that had 1, 2, and 3."""
    judge, timeline, shape = Judge(), Timeline(), Shape("alpha.t")
    for rows in (ROWS_1, ROWS_2, ROWS_3):
        timeline.append(Expected(rows))
    judge.take(shape, timeline, Record([Observed("h", rows) for rows in observed]), born=0.0)
    return [one.what for one in judge.totals.violations]


def test_states_are_those_of_the_table_in_order() -> None:
    """A client may skip states; it may have none that the table never had, and none twice."""
    assert judged(ROWS_1, ROWS_2, ROWS_3) == judged(ROWS_1, ROWS_3) == []
    assert judged(ROWS_1, ROWS_1 | ROWS_2, ROWS_3) == ["rows that the table never had"]
    assert judged(ROWS_1, ROWS_3, ROWS_2) == ["rows that the table never had"]


@pytest.mark.parametrize(("born", "is_permitted"), [(0.5, True), (1.5, False)])
def test_a_refetch_needs_a_statement_since_its_handle_was_born(born: float, is_permitted: bool) -> None:
    """A second one for the same statement is one too many."""
    judge, shape = Judge(), Shape("alpha.t")
    judge.permit([Permission(1.0, Kind.TRUNCATE, Reach.TABLE, T)])
    judge.take(shape, Timeline(), Record(refetched=[Refetched("h", born)]), born)
    assert judge.totals.refetches.total() == is_permitted
    assert judge.totals.unruled_share == (not is_permitted)
