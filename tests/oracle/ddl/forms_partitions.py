"""Forms for partitioned tables: made ahead, attached with rows or without, detached, dropped.

All are partitioned by ranges of a column, a hundred values each; the number is in the partition's name.
"""

from __future__ import annotations

import re

from tests.oracle.ddl.catalog import SCHEMAS, Table, quoted
from tests.oracle.ddl.forms import Draw, form
from tests.oracle.ddl.forms_tables import column_list
from tests.oracle.ddl.statements import Kind, Statement

ROOT_NAMES = ("p1", "p2")
MOST_LEAVES = 4


def roots(draw: Draw) -> list[Table]:
    """Partitioned tables that are no partitions."""
    return [one for one in draw.catalog.tables.values() if one.kind == "p" and not one.is_partition]


def range_of(table: Table) -> tuple[int, int] | None:
    """The bounds of a partition."""
    found = re.findall(r"\d+", table.bound or "")
    return (int(found[0]), int(found[1])) if len(found) == 2 else None


@form(weight=2)
def create_root(draw: Draw) -> Statement | None:
    """With two partitions, one of them perhaps partitioned again."""
    taken = roots(draw)
    names = {one.name for one in taken}
    name = draw.any(one for one in ROOT_NAMES if one not in names)
    if name is None:
        return None
    schema = draw.pick.choice(SCHEMAS)
    full_name = f"{schema}.{name}"
    key = draw.pick.choices((", PRIMARY KEY (id, part)", ", PRIMARY KEY (part)", ""), (8, 2, 1))[0]
    columns = f"id integer, part integer, {column_list(draw)}{key}"
    sql = f"CREATE TABLE {full_name} ({columns}) PARTITION BY RANGE (part)"
    for number in (1, 2):
        bounds = _bounds(number)
        leaf = f"{schema}.{name}_{number}_{draw.next()}"
        sql += f"; CREATE TABLE {leaf} PARTITION OF {full_name} {bounds}"
        if number == 2 and draw.pick.random() < 0.3:
            sql += f" PARTITION BY RANGE (part); CREATE TABLE {leaf}_all PARTITION OF {leaf} DEFAULT"
    return Statement(Kind.CREATE_TABLE, sql, (full_name,))


def _bounds(number: int) -> str:
    return f"FOR VALUES FROM ({number * 100}) TO ({number * 100 + 100})"


def _free_number(draw: Draw, root: Table) -> int | None:
    leaves = draw.catalog.children(root.oid)
    taken = {range_of(one) for one in leaves}
    if len(leaves) >= MOST_LEAVES:
        return None
    return draw.any(number for number in range(1, 8) if (number * 100, number * 100 + 100) not in taken)


@form(weight=1.5)
def create_partition(draw: Draw) -> Statement | None:
    """Ahead of its rows."""
    root = draw.any(roots(draw))
    number = _free_number(draw, root) if root else None
    if root is None or number is None:
        return None
    leaf = _leaf_name(draw, root, number)
    sql = f"CREATE TABLE {leaf} PARTITION OF {root.full_name} {_bounds(number)}"
    return Statement(Kind.CREATE_PARTITION, sql, (root.full_name,))


@form(weight=2.5)
def attach(draw: Draw) -> Statement | None:
    """A new table with rows or without; a table that was detached."""
    root = draw.any(roots(draw))
    number = _free_number(draw, root) if root else None
    if root is None or number is None:
        return None
    loose = draw.any(_detached(draw, root))
    verb = f"ALTER TABLE {root.full_name} ATTACH PARTITION"
    if loose is not None and draw.pick.random() < 0.7:
        return Statement(
            Kind.ATTACH, f"{verb} {loose.full_name} {_bounds(_number_of(loose))}", (root.full_name,)
        )
    leaf = _leaf_name(draw, root, number)
    rows = "".join(_new_row(draw, root, leaf, number) for _ in range(draw.pick.choice((0, 0, 2))))
    create = f"CREATE TABLE {leaf} (LIKE {root.full_name} INCLUDING DEFAULTS)"
    return Statement(Kind.ATTACH, f"{create}; {rows}{verb} {leaf} {_bounds(number)}", (root.full_name,))


def _leaf_name(draw: Draw, root: Table, number: int) -> str:
    return f"{root.schema}.{root.name}_{number}_{draw.next()}"


def _new_row(draw: Draw, root: Table, leaf: str, number: int) -> str:
    """An INSERT of values for the key, numbers all."""
    names = dict.fromkeys((*root.key, *root.partition_key))
    values = (
        number * 100 + draw.next() % 100 if name in root.partition_key else draw.next() for name in names
    )
    return f"INSERT INTO {leaf} ({', '.join(map(quoted, names))}) VALUES ({', '.join(map(str, values))}); "


def _detached(draw: Draw, root: Table) -> list[Table]:
    return [
        one
        for one in draw.catalog.tables.values()
        if one.schema == root.schema and not one.parents and one.kind == "r"
        if re.fullmatch(rf"{root.name}_\d+_\d+", one.name)
    ]


def _number_of(leaf: Table) -> int:
    """The range for which a partition was made."""
    return int(leaf.name.split("_")[1])


@form(weight=1.5)
def detach(draw: Draw) -> Statement | None:
    """It becomes a table of its own."""
    root = draw.any(roots(draw))
    leaf = draw.any(draw.catalog.children(root.oid)) if root else None
    if root is None or leaf is None:
        return None
    sql = f"ALTER TABLE {root.full_name} DETACH PARTITION {leaf.full_name}"
    return Statement(Kind.DETACH, sql, (root.full_name,))


@form(weight=1.5)
def drop_partition(draw: Draw) -> Statement | None:
    """A leaf, or a table that was one."""
    root = draw.any(roots(draw))
    if root is None:
        return None
    leaf = draw.any((*draw.catalog.children(root.oid), *_detached(draw, root)))
    if leaf is None:
        return None
    return Statement(Kind.DROP_PARTITION, f"DROP TABLE {leaf.full_name} CASCADE", (leaf.full_name,))
