"""ALTER TABLE forms for columns."""

from __future__ import annotations

from tests.oracle.ddl.catalog import Column, Table, quoted
from tests.oracle.ddl.forms import Draw, alter, alter_column, form
from tests.oracle.ddl.statements import Kind, Statement
from tests.oracle.ddl.values import WIDENING, any_type, converted, same_type, value_for

NAMES = ("a", "b", "c", "d", "e", "f", "g", "Odd name", "select")
MOST_COLUMNS = 9


@form(weight=4)
def add_column(draw: Draw) -> Statement | None:
    """With a default or without."""
    table = draw.table()
    if table is None or len(table.columns) >= MOST_COLUMNS:
        return None
    name = draw.any(one for one in NAMES if table.column(one) is None)
    if name is None:
        return None
    type_ = any_type(draw.pick, draw.catalog)
    default = ""
    if draw.pick.random() < 0.5:
        column = Column(name, type_, "b", None, False, "", False, False, 0)
        default = f" DEFAULT {value_for(draw.pick, column, draw.catalog, draw.next())}"
    return alter(Kind.ADD_COLUMN, table, f"ADD COLUMN {quoted(name)} {type_}{default}", name)


@form(weight=0.7)
def add_generated_column(draw: Draw) -> Statement | None:
    """A stored one; from Postgres 18 on also a virtual one."""
    table = draw.table()
    name = draw.any(one for one in NAMES if table is None or table.column(one) is None)
    source = _integer(draw, table)
    if table is None or name is None or source is None:
        return None
    how = draw.pick.choice(("STORED", "VIRTUAL") if draw.version >= 18 else ("STORED",))
    generated = f"integer GENERATED ALWAYS AS ({quoted(source.name)} * 2) {how}"
    return alter(Kind.ADD_COLUMN, table, f"ADD COLUMN {quoted(name)} {generated}", name)


@form(weight=2.5)
def drop_column(draw: Draw) -> Statement | None:
    """Not of the key."""
    table = draw.table()
    column = draw.column(table)
    if table is None or column is None or len(table.columns) < 3:
        return None
    return alter(Kind.DROP_COLUMN, table, f"DROP COLUMN {quoted(column.name)} CASCADE", column.name)


@form(weight=1.5)
def drop_and_add_column(draw: Draw) -> Statement | None:
    """Another column of the same name and type."""
    table = draw.table()
    column = draw.column(table)
    if table is None or column is None or column.generated:
        return None
    default = value_for(draw.pick, column, draw.catalog, draw.next())
    again = f"ADD COLUMN {quoted(column.name)} {column.type} DEFAULT {default}"
    return alter(Kind.DROP_COLUMN, table, f"DROP COLUMN {quoted(column.name)} CASCADE, {again}", column.name)


@form(weight=2)
def rename_column(draw: Draw) -> Statement | None:
    """Also of the key."""
    table = draw.table()
    column = draw.column(table, is_key=draw.pick.random() < 0.3)
    if table is None or column is None:
        return None
    name = draw.any(one for one in (*NAMES, "id") if table.column(one) is None)
    if name is None:
        return None
    action = f"RENAME COLUMN {quoted(column.name)} TO {quoted(name)}"
    return alter(Kind.RENAME_COLUMN, table, action, column.name, name)


@form(weight=1.5)
def swap_columns(draw: Draw) -> Statement | None:
    """Three renames in one message, which Postgres runs as one transaction."""
    table = draw.table()
    one, other = draw.column(table), draw.column(table)
    if table is None or one is None or other is None or one == other:
        return None
    verb = f"ALTER TABLE {table.full_name} RENAME COLUMN"
    first, second = quoted(one.name), quoted(other.name)
    sql = f"{verb} {first} TO swapped; {verb} {second} TO {first}; {verb} swapped TO {second}"
    return Statement(Kind.RENAME_COLUMN, sql, (table.full_name,), (one.name, other.name))


@form(weight=2)
def widen(draw: Draw) -> Statement | None:
    """ALTER COLUMN TYPE without USING."""
    table = draw.table()
    column = draw.column(table, is_key=True)
    if table is None or column is None or column.kind != "b":
        return None
    wanted = draw.any(WIDENING.get(column.base, ()))
    return alter_column(Kind.RETYPE, table, column, f"TYPE {wanted}") if wanted else None


@form(weight=3)
def convert(draw: Draw) -> Statement | None:
    """ALTER COLUMN TYPE with USING; a default would have to be converted, too."""
    table = draw.table()
    column = draw.column(table)
    if table is None or column is None or column.generated:
        return None
    wanted = any_type(draw.pick, draw.catalog)
    drop = f"ALTER COLUMN {quoted(column.name)} DROP DEFAULT, " if column.has_default else ""
    action = f"TYPE {wanted} USING {converted(column, wanted, draw.catalog)}"
    return alter(Kind.RETYPE_USING, table, f"{drop}ALTER COLUMN {quoted(column.name)} {action}", column.name)


@form(weight=2)
def convert_to_the_same_type(draw: Draw) -> Statement | None:
    """The layout stays, the values change."""
    table = draw.table()
    column = draw.column(table, is_key=draw.pick.random() < 0.2)
    expression = same_type(column) if column else None
    if table is None or column is None or expression is None or column.generated:
        return None
    return alter_column(Kind.SAME_TYPE_USING, table, column, f"TYPE {column.type} USING {expression}")


@form()
def set_not_null(draw: Draw) -> Statement | None:
    """Fails where there are NULLs."""
    table = draw.table()
    column = draw.column(table)
    if table is None or column is None or column.not_null:
        return None
    return alter_column(Kind.SET_NOT_NULL, table, column, "SET NOT NULL")


@form()
def drop_not_null(draw: Draw) -> Statement | None:
    """Not of the key."""
    table = draw.table()
    column = (
        draw.any(one for one in table.columns if one.not_null and one.name not in table.key)
        if table
        else None
    )
    return alter_column(Kind.DROP_NOT_NULL, table, column, "DROP NOT NULL") if table and column else None


@form()
def set_or_drop_default(draw: Draw) -> Statement | None:
    """Of later rows only."""
    table = draw.table()
    column = draw.column(table)
    if table is None or column is None or column.generated:
        return None
    value = value_for(draw.pick, column, draw.catalog, draw.next())
    action = "DROP DEFAULT" if column.has_default else f"SET DEFAULT {value}"
    return alter_column(Kind.DEFAULT, table, column, action)


@form(since=17)
def set_expression(draw: Draw) -> Statement | None:
    """Of a generated column."""
    table, column = _generated(draw)
    source = _integer(draw, table)
    if table is None or column is None or source is None:
        return None
    action = f"SET EXPRESSION AS ({quoted(source.name)} * {draw.pick.randint(3, 9)})"
    return alter_column(Kind.SET_EXPRESSION, table, column, action)


@form(weight=0.7)
def drop_expression(draw: Draw) -> Statement | None:
    """A stored column becomes an ordinary one."""
    table, column = _generated(draw)
    if table is None or column is None or column.generated != "s":
        return None
    return alter_column(Kind.DROP_EXPRESSION, table, column, "DROP EXPRESSION")


@form(weight=0.7)
def set_statistics(draw: Draw) -> Statement | None:
    """Of any column."""
    table = draw.table()
    column = draw.column(table, is_key=True)
    if table is None or column is None:
        return None
    return alter_column(Kind.STATISTICS, table, column, f"SET STATISTICS {draw.pick.randint(10, 900)}")


@form(weight=0.7)
def set_storage(draw: Draw) -> Statement | None:
    """Of a text."""
    table = draw.table()
    column = draw.any(one for one in table.columns if one.base == "text") if table else None
    if table is None or column is None:
        return None
    storage = draw.pick.choice(("PLAIN", "EXTERNAL", "EXTENDED", "MAIN"))
    return alter_column(Kind.STORAGE, table, column, f"SET STORAGE {storage}")


def _integer(draw: Draw, table: Table | None) -> Column | None:
    """A column for an expression."""
    columns = table.columns if table else ()
    return draw.any(one for one in columns if not one.generated and one.base == "integer")


def _generated(draw: Draw) -> tuple[Table | None, Column | None]:
    table = draw.any(one for one in draw.catalog.tables.values() if any(c.generated for c in one.columns))
    return table, draw.any(one for one in table.columns if one.generated) if table else None
