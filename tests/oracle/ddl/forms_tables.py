"""Forms for whole tables and schemas, their keys, constraints and settings."""

from __future__ import annotations

from tests.oracle.ddl.catalog import SCHEMAS, Table, quoted
from tests.oracle.ddl.forms import Draw, alter, form
from tests.oracle.ddl.forms_columns import NAMES
from tests.oracle.ddl.statements import Kind, Statement
from tests.oracle.ddl.values import any_type

TABLE_NAMES = ("t1", "t2", "t3", "Odd Table", "t5")
MOST_TABLES = 5


def ordinary(draw: Draw) -> list[Table]:
    """Tables that are neither partitioned nor partitions."""
    return [one for one in draw.catalog.tables.values() if one.kind == "r" and not one.is_partition]


def column_list(draw: Draw) -> str:
    """Random columns beside the key."""
    names = draw.pick.sample(NAMES, draw.pick.randint(2, 5))
    return ", ".join(f"{quoted(name)} {any_type(draw.pick, draw.catalog)}" for name in names)


@form(weight=3)
def create_table(draw: Draw) -> Statement | None:
    """With one of several kinds of keys, seldom without one."""
    tables = ordinary(draw)
    if len(tables) >= MOST_TABLES:
        return None
    schema = draw.pick.choice(SCHEMAS)
    taken = {one.name for one in tables if one.schema == schema}
    name = draw.any(one for one in TABLE_NAMES if one not in taken)
    if name is None:
        return None
    full_name = f"{schema}.{quoted(name)}"
    return Statement(
        Kind.CREATE_TABLE, f"CREATE TABLE {full_name} ({_key(draw)}{column_list(draw)})", (full_name,)
    )


def _key(draw: Draw) -> str:
    return draw.pick.choices(
        (
            "id integer PRIMARY KEY, ",
            "id bigint, k text, PRIMARY KEY (id, k), ",
            "k text PRIMARY KEY, id integer, ",
            "id integer NOT NULL UNIQUE, ",
            "id integer, ",
        ),
        (10, 3, 2, 1, 1),
    )[0]


@form(weight=1.5)
def drop_table(draw: Draw) -> Statement | None:
    """With what depends on it."""
    table = draw.table()
    if table is None:
        return None
    return Statement(Kind.DROP_TABLE, f"DROP TABLE {table.full_name} CASCADE", (table.full_name,))


@form(weight=1.5)
def recreate_table(draw: Draw) -> Statement | None:
    """Another table with the same name, columns and key, in one message."""
    table = draw.any(ordinary(draw))
    if table is None or draw.catalog.children(table.oid):
        return None
    name = table.full_name
    sql = (
        f"CREATE TABLE {table.schema}.copied (LIKE {name} INCLUDING ALL);"
        f"DROP TABLE {name} CASCADE; ALTER TABLE {table.schema}.copied RENAME TO {quoted(table.name)}"
    )
    return Statement(Kind.DROP_TABLE, sql, (name,))


@form(weight=1.5)
def rename_table(draw: Draw) -> Statement | None:
    """To a name that is free."""
    table = draw.any(ordinary(draw))
    taken = {one.name for one in draw.catalog.tables.values() if table and one.schema == table.schema}
    name = draw.any(one for one in TABLE_NAMES if one not in taken)
    if table is None or name is None:
        return None
    renamed = f"{table.schema}.{quoted(name)}"
    sql = f"ALTER TABLE {table.full_name} RENAME TO {quoted(name)}"
    return Statement(Kind.RENAME_TABLE, sql, (table.full_name, renamed))


@form(weight=1.5)
def swap_tables(draw: Draw) -> Statement | None:
    """Of one schema, as zero-downtime migrations do."""
    one = draw.any(ordinary(draw))
    other = draw.any(each for each in ordinary(draw) if one and each.schema == one.schema and each != one)
    if one is None or other is None:
        return None
    first, second = quoted(one.name), quoted(other.name)
    sql = (
        f"ALTER TABLE {one.full_name} RENAME TO swapped; ALTER TABLE {other.full_name} RENAME TO {first};"
        f"ALTER TABLE {one.schema}.swapped RENAME TO {second}"
    )
    return Statement(Kind.RENAME_TABLE, sql, (one.full_name, other.full_name))


@form()
def set_schema(draw: Draw) -> Statement | None:
    """To the other schema."""
    table = draw.any(ordinary(draw))
    if table is None:
        return None
    schema = SCHEMAS[table.schema == SCHEMAS[0]]
    moved = f"{schema}.{quoted(table.name)}"
    sql = f"ALTER TABLE {table.full_name} SET SCHEMA {schema}"
    return Statement(Kind.SET_SCHEMA, sql, (table.full_name, moved))


@form(weight=0.4)
def swap_schemas(draw: Draw) -> Statement | None:
    """Every table has another name."""
    one, other = SCHEMAS
    sql = (
        f"ALTER SCHEMA {one} RENAME TO swapped; ALTER SCHEMA {other} RENAME TO {one};"
        f"ALTER SCHEMA swapped RENAME TO {other}"
    )
    return Statement(Kind.RENAME_SCHEMA, sql, tuple(one.full_name for one in draw.catalog.tables.values()))


@form(weight=0.5)
def recreate_schema(draw: Draw) -> Statement | None:
    """All its tables are gone; one of them is made again, as by a reset of migrations."""
    schema = draw.pick.choice(SCHEMAS)
    tables = [one for one in draw.catalog.tables.values() if one.schema == schema]
    sql = f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}"
    if table := draw.any(one for one in tables if one.kind == "r" and not one.is_partition):
        sql += f"; CREATE TABLE {table.full_name} ({_key(draw)}{column_list(draw)})"
    return Statement(Kind.DROP_SCHEMA, sql, tuple(one.full_name for one in tables))


@form(weight=1.5)
def move_key(draw: Draw) -> Statement | None:
    """The primary key to other columns, which must be unique and not NULL."""
    table = draw.any(ordinary(draw))
    key = next((one for one in table.constraints if one.kind == "p"), None) if table else None
    new = draw.column(table)
    if table is None or new is None:
        return None
    columns = draw.any(((new.name,), (*table.key, new.name), table.key[:1] or (new.name,)))
    drop = f"DROP CONSTRAINT {quoted(key.name)} CASCADE, " if key else ""
    late = " DEFERRABLE" if draw.pick.random() < 0.1 else ""
    listed = ", ".join(quoted(name) for name in columns or ())
    return alter(Kind.MOVE_KEY, table, f"{drop}ADD PRIMARY KEY ({listed}){late}")


@form(weight=0.4)
def drop_key(draw: Draw) -> Statement | None:
    """A table without one."""
    table = draw.any(ordinary(draw))
    key = next((one for one in table.constraints if one.kind == "p"), None) if table else None
    return (
        alter(Kind.MOVE_KEY, table, f"DROP CONSTRAINT {quoted(key.name)} CASCADE") if table and key else None
    )


@form(weight=1.5)
def add_constraint(draw: Draw) -> Statement | None:
    """CHECK, UNIQUE, or a foreign key to another table."""
    table = draw.table()
    column = draw.column(table)
    if table is None or column is None:
        return None
    name, quoted_name = draw.name("con_"), quoted(column.name)
    how = draw.pick.choice(("check", "unique", "foreign"))
    if how == "check":
        return alter(
            Kind.ADD_CONSTRAINT,
            table,
            f"ADD CONSTRAINT {name} CHECK ({quoted_name} IS NOT DISTINCT FROM {quoted_name}) NOT VALID",
        )
    if how == "unique":
        return alter(Kind.ADD_CONSTRAINT, table, f"ADD CONSTRAINT {name} UNIQUE ({quoted_name})")
    target = draw.any(one for one in ordinary(draw) if len(one.key) == 1 and one != table)
    if target is None:
        return None
    reference = f"FOREIGN KEY ({quoted_name}) REFERENCES {target.full_name} ON DELETE CASCADE NOT VALID"
    return alter(Kind.ADD_CONSTRAINT, table, f"ADD CONSTRAINT {name} {reference}")


@form(weight=2)
def drop_constraint(draw: Draw) -> Statement | None:
    """Any but the key."""
    table = draw.any(
        one for one in draw.catalog.tables.values() if any(c.kind != "p" for c in one.constraints)
    )
    constraint = (
        draw.any(one for one in table.constraints if one.kind != "p" and not one.is_inherited)
        if table
        else None
    )
    if table is None or constraint is None:
        return None
    return alter(Kind.DROP_CONSTRAINT, table, f"DROP CONSTRAINT {quoted(constraint.name)} CASCADE")


@form(weight=0.7)
def replica_identity(draw: Draw) -> Statement | None:
    """Behind the server's back."""
    table = draw.table(is_leaf=None)
    if table is None or (table.kind == "r" and not table.key):
        return None
    unique = draw.any(one for one in table.indexes if one.columns in table.identifying)
    index = f"USING INDEX {quoted(unique.name)}" if unique else "DEFAULT"
    return alter(Kind.IDENTITY, table, f"REPLICA IDENTITY {draw.pick.choice(('DEFAULT', 'FULL', index))}")


@form(weight=0.7)
def storage_parameters(draw: Draw) -> Statement | None:
    """SET and RESET."""
    table = draw.any(one for one in draw.catalog.tables.values() if one.kind == "r")
    if table is None:
        return None
    parameter = draw.pick.choice(
        (
            f"SET (fillfactor = {draw.pick.randint(40, 100)})",
            "RESET (fillfactor)",
            "SET (autovacuum_enabled = false)",
        )
    )
    return alter(Kind.PARAMETERS, table, parameter)


@form(weight=0.7)
def cluster_on(draw: Draw) -> Statement | None:
    """For a later CLUSTER."""
    table = draw.any(one for one in ordinary(draw) if one.indexes)
    index = draw.any(table.indexes) if table else None
    return alter(Kind.CLUSTER_ON, table, f"CLUSTER ON {quoted(index.name)}") if table and index else None


@form(weight=0.6)
def row_security(draw: Draw) -> Statement | None:
    """Mostly off again."""
    table = draw.any(one for one in draw.catalog.tables.values() if one.has_row_security)
    if table is not None:
        return alter(Kind.ROW_SECURITY, table, "DISABLE ROW LEVEL SECURITY")
    table = draw.table()
    return alter(Kind.ROW_SECURITY, table, "ENABLE ROW LEVEL SECURITY") if table else None


@form(weight=0.6)
def inherit(draw: Draw) -> Statement | None:
    """Off where a table inherits, else on by a new child."""
    tables = ordinary(draw)
    child = draw.any(one for one in tables if one.parents)
    if child is not None:
        parent = draw.catalog.tables.get(child.parents[0])
        if parent is None:
            return None
        return Statement(
            Kind.NO_INHERIT,
            f"ALTER TABLE {child.full_name} NO INHERIT {parent.full_name}",
            (parent.full_name,),
        )
    parent = draw.any(tables)
    if parent is None or len(tables) >= MOST_TABLES:
        return None
    name = f"{parent.schema}.{draw.name('child_')}"
    sql = f"CREATE TABLE {name} () INHERITS ({parent.full_name})"
    if draw.pick.random() < 0.5:
        alone = f"CREATE TABLE {name} (LIKE {parent.full_name} INCLUDING ALL)"
        sql = f"{alone}; ALTER TABLE {name} INHERIT {parent.full_name}"
    return Statement(Kind.INHERIT, sql, (parent.full_name,))
