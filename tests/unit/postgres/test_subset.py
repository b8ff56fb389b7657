"""The statements of a subset snapshot, its refusals, and its metadata."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import errors as pg
from tests.support.postgres.where_tables import column

from pgshapes.errors import NotNow, PgShapesError, RequestError, SchemaChanged
from pgshapes.model.relation import Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres import refusals
from pgshapes.postgres.snapshot import lock_table
from pgshapes.postgres.subset import (
    SubsetSelection,
    SubsetVisibility,
    copy_subset,
)
from pgshapes.where.clause import prepare_subset_clause
from pgshapes.where.language.grammar import parse_statements
from pgshapes.where.language.sort_order import SortTerm

ITEMS = Relation(
    oid=5,
    schema="my schema",
    name='it"ems',
    kind="r",
    columns=(column("id", "int4")._replace(pk_index=0, not_null=True), column('we"ird', "text")),
    primary_key=("id",),
    generation=1,
)
SOURCE = 'FROM ONLY "my schema"."it""ems"'


def tail_of(selection: SubsetSelection) -> str:
    statement = copy_subset(selection, 7)
    assert statement.startswith("COPY (SELECT pg_catalog.concat(")
    return statement.split(SOURCE, 1)[1].rsplit(") TO STDOUT", 1)[0]


def test_both_clauses_stand_in_parentheses() -> None:
    selection = SubsetSelection(ITEMS, ("id",), shape_where="a OR b", subset_where="c OR d")
    assert tail_of(selection) == " WHERE (a OR b) AND (c OR d)"
    assert tail_of(selection._replace(subset_where=None)) == " WHERE (a OR b)"
    assert tail_of(selection._replace(shape_where=None)) == " WHERE (c OR d)"
    assert tail_of(SubsetSelection(ITEMS, ("id",))) == ""


def test_the_order_names_columns_of_the_table() -> None:
    order = (SortTerm("id", True, None), SortTerm('we"ird', False, False), SortTerm("id", False, True))
    table = '"my schema"."it""ems"'
    assert tail_of(SubsetSelection(ITEMS, ("id",), order=order, limit=3, offset=0)) == (
        f' ORDER BY {table}."id" DESC, {table}."we""ird" ASC NULLS LAST, {table}."id" ASC NULLS FIRST'
        " LIMIT 3 OFFSET 0"
    )


def structure(statement: str) -> Any:
    """The parse tree of a statement without locations and string values."""

    def bare(node: Any) -> Any:
        if isinstance(node, list):
            return [bare(one) for one in node]
        if isinstance(node, dict):
            kept = {
                key: bare(one) for key, one in node.items() if "location" not in key and key != "stmt_len"
            }
            return {**kept, "sval": {}} if isinstance(node.get("sval"), dict) else kept
        return node

    return bare(parse_statements(statement.encode()))


@pytest.mark.parametrize(
    "value",
    ["'", "\\", "\\'", "'; DROP TABLE x; --", "') OR (true", "$$", "/*", "--", '"', "\x01\x02", "{}%s$1"],
)
def test_no_value_changes_the_structure(value: str) -> None:
    def statement(value: str) -> str:
        clause = prepare_subset_clause('"we""ird" = $1', {"1": value}, ITEMS, queryable=('we"ird',))
        sql = clause.confirm([expr.type.oid for expr in clause._described]).sql
        order = (SortTerm('we"ird', True, True),)
        return copy_subset(SubsetSelection(ITEMS, ("id",), "true", sql, order, 5, 6), 7)

    assert structure(statement(value)) == structure(statement("plain"))


def test_rows_carry_the_mark() -> None:
    assert '"snapshot_mark":7' in copy_subset(SubsetSelection(ITEMS, ("id",)), 7)


def test_partitioned_tables_are_read_whole() -> None:
    assert lock_table(ITEMS) == 'LOCK TABLE ONLY "my schema"."it""ems" IN ACCESS SHARE MODE'
    root = Relation(*ITEMS._replace(kind="p"))
    assert lock_table(root) == 'LOCK TABLE "my schema"."it""ems" IN ACCESS SHARE MODE'


@pytest.mark.parametrize(
    ("begun", "xmax", "xip"),
    [(0, 20, (15,)), (3, 23, (15, 20, 21, 22)), (1_001, 20, (15,))],
)
def test_metadata_say_the_same_with_a_later_xmax(begun: int, xmax: int, xip: tuple[int, ...]) -> None:
    seen = SnapshotVisibility(10, 20, (15,), 4711)
    extended = SubsetVisibility(seen, begun).with_later_xmax()
    assert extended == SnapshotVisibility(10, xmax, xip, 4711)
    assert all(extended.sees_xid(xid) == seen.sees_xid(xid) for xid in range(5, 1_100))


CHANGED = "the table changed while it was read"
BY_ZERO = "division by zero (SQLSTATE 22012)"
OF_ROW = f"fails for a row of the table: {BY_ZERO}"
DENIED = (
    'Table "my schema"."it""ems" cannot be followed: insufficient privilege (SQLSTATE 42501).'
    " Grant what is missing and request again."
)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (pg.InvalidTextRepresentation("no such value"), RequestError(errors={"where": "no such value"})),
        (pg.DivisionByZero("by zero"), RequestError(errors={"where": "by zero"})),
        (pg.UndefinedFunction("no such operator"), RequestError(errors={"where": ["no such operator"]})),
        (pg.StatementTooComplex("too deep"), RequestError(errors={"where": ["too deep"]})),
        (pg.UndefinedColumn("gone"), SchemaChanged(f"{CHANGED}: undefined column (SQLSTATE 42703)")),
        (pg.UndefinedTable("gone"), SchemaChanged(f"{CHANGED}: undefined table (SQLSTATE 42P01)")),
        (pg.InsufficientPrivilege("denied"), RequestError(errors={"table": [DENIED]})),
        (pg.QueryCanceled("timeout"), NotNow("The subset snapshot took too long; ask for less")),
        (pg.AdminShutdown("bye"), NotNow("Database connection not available")),
    ],
)
def test_a_clause_that_the_server_refuses(error: pg.Error, refused: PgShapesError) -> None:
    assert_same(refusals.refuse_clause(error, ITEMS), refused)


def test_a_query_that_fails() -> None:
    unordered = pg.UndefinedFunction("could not identify an ordering operator for type json")
    told = refuse_rows(unordered, has_where=True, has_order=True)
    text = "cannot be sorted by this: undefined function (SQLSTATE 42883)"
    assert_same(told, RequestError(errors={"order_by": [text]}))
    by_zero = pg.DivisionByZero("by zero: 4711")
    assert_same(refuse_rows(by_zero, has_where=True), RequestError(errors={"where": OF_ROW}))
    told = refuse_rows(by_zero, has_shape_where=True)
    assert_same(told, RequestError(errors={"where": [OF_ROW]}))
    assert told.details["said"] == "by zero: 4711"
    text = f'Table "my schema"."it""ems" cannot be followed: {BY_ZERO}. Remove the cause and request again.'
    assert_same(refuse_rows(by_zero), RequestError(errors={"table": [text]}))


def refuse_rows(
    error: pg.Error, *, has_where: bool = False, has_order: bool = False, has_shape_where: bool = False
) -> PgShapesError:
    return refusals.refuse_rows(
        error, ITEMS, has_where=has_where, has_order=has_order, has_shape_where=has_shape_where
    )


LASTING = ("0A000", "22012", "22P02", "2F005", "38000", "39000", "42501", "42804", "54001", "P0001")
PASSING = ("08006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "58030", "XX000", "25006")


@pytest.mark.parametrize("state", [*LASTING, *PASSING])
def test_only_what_waiting_cures_is_a_503(state: str) -> None:
    error = pg.lookup(state)("why")
    told = refusals.refuse_snapshot(error, ITEMS)
    assert isinstance(told, RequestError) is (state in LASTING)
    if state in LASTING:
        assert state in told.details["errors"]["table"][0]
        assert told.details["said"] == "why"
        told = refusals.refuse_snapshot(error, ITEMS, has_where=True)
        assert isinstance(told, RequestError)
        assert told.errors.keys() == ({"table"} if state == "42501" else {"where"})


def assert_same(told: PgShapesError, expected: PgShapesError) -> None:
    assert type(told) is type(expected)
    if isinstance(expected, RequestError):
        assert isinstance(told, RequestError)
        assert told.errors == expected.errors
    else:
        assert told.message == expected.message
