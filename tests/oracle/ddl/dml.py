"""Random INSERT, UPDATE and DELETE statements for any table of the catalog."""

from __future__ import annotations

from tests.oracle.ddl.catalog import Column, Table, quoted
from tests.oracle.ddl.forms import Draw
from tests.oracle.ddl.forms_partitions import range_of
from tests.oracle.ddl.statements import Kind, Statement
from tests.oracle.ddl.values import value_for


def draw_dml(draw: Draw) -> Statement | None:
    """A statement on a random table; None if there is none."""
    table = draw.table(is_leaf=None if draw.pick.random() < 0.2 else False)
    if table is None:
        return None
    how = draw.pick.choices(("insert", "update", "delete"), (5, 4, 2))[0]
    made = {"insert": insert, "update": update, "delete": delete}[how](draw, table)
    return Statement(Kind.DML, made, (table.full_name,)) if made else None


def insert(draw: Draw, table: Table) -> str | None:
    """One to three rows."""
    columns = [one for one in table.columns if not one.generated]
    if not columns:
        return None
    rows = []
    for _ in range(draw.pick.randint(1, 3)):
        number = draw.next()
        values = [_value(draw, table, one, number) for one in columns]
        if None in values:
            return None
        rows.append("(" + ", ".join(value or "" for value in values) + ")")
    listed = ", ".join(quoted(one.name) for one in columns)
    return f"INSERT INTO {table.full_name} ({listed}) VALUES {', '.join(rows)}"


def update(draw: Draw, table: Table) -> str | None:
    """One or two columns of one to three rows; the key of one row."""
    columns = [one for one in table.columns if not one.generated and one.name not in table.key]
    is_of_key = not columns or draw.pick.random() < 0.1
    if is_of_key:
        columns = [one for one in table.columns if one.name in table.key and not one.generated]
    if not columns:
        return None
    chosen = draw.pick.sample(columns, min(len(columns), draw.pick.randint(1, 2)))
    values = [(one, _value(draw, table, one, draw.next())) for one in chosen]
    if any(value is None for _, value in values):
        return None
    assigned = ", ".join(f"{quoted(one.name)} = {value}" for one, value in values)
    return f"UPDATE {table.full_name} SET {assigned} WHERE {_some_rows(draw, table, 1 if is_of_key else 3)}"


def delete(draw: Draw, table: Table) -> str:
    """A few rows."""
    return f"DELETE FROM {table.full_name} WHERE {_some_rows(draw, table, 4)}"


def _some_rows(draw: Draw, table: Table, most: int) -> str:
    """A condition for rows that the same statement finds again in a replay: by order, not by chance."""
    order = ", ".join(f"{quoted(one.name)}::text" for one in table.columns)
    place = f"OFFSET {draw.pick.randint(0, 12)} LIMIT {draw.pick.randint(1, most)}"
    rows = f"SELECT tableoid, ctid FROM {table.full_name} ORDER BY {order} {place}"
    return f"(tableoid, ctid) IN ({rows})"


def _value(draw: Draw, table: Table, column: Column, number: int) -> str | None:
    """A literal; None if no partition could take any."""
    if column.name in table.partition_key:
        ranges = [found for one in draw.catalog.children(table.oid) if (found := range_of(one))]
        chosen = draw.any(ranges)
        return str(chosen[0] + number % 100) if chosen else None
    own = range_of(table)
    root = draw.catalog.tables.get(table.parents[0]) if table.parents else None
    if own and root and column.name in root.partition_key:
        return str(own[0] + number % 100)
    if not column.not_null and draw.pick.random() < 0.12:
        return "NULL"
    return value_for(draw.pick, column, draw.catalog, number)
