"""Forms that change no row: maintenance, indexes, comments, privileges; and those for the publication."""

from __future__ import annotations

from tests.oracle.ddl.catalog import Table, quoted
from tests.oracle.ddl.forms import Draw, form
from tests.oracle.ddl.statements import Kind, Statement


def _any_table(draw: Draw) -> Table | None:
    return draw.table(is_leaf=None)


def _on(kind: Kind, table: Table | None, sql: str) -> Statement | None:
    return Statement(kind, sql.format(table.full_name), (table.full_name,)) if table else None


@form(weight=1.5)
def truncate(draw: Draw) -> Statement | None:
    """A root, a leaf, or an ordinary table."""
    return _on(Kind.TRUNCATE, _any_table(draw), "TRUNCATE {} CASCADE")


@form(weight=1.5)
def vacuum_full(draw: Draw) -> Statement | None:
    """Another file, the same rows."""
    return _on(
        Kind.VACUUM_FULL,
        draw.any(one for one in draw.catalog.tables.values() if one.kind == "r"),
        "VACUUM (FULL) {}",
    )


@form()
def cluster(draw: Draw) -> Statement | None:
    """As VACUUM FULL."""
    table = draw.any(one for one in draw.catalog.tables.values() if one.kind == "r" and one.indexes)
    index = draw.any(table.indexes) if table else None
    return _on(Kind.CLUSTER, table, f"CLUSTER {{}} USING {quoted(index.name)}") if index else None


@form(weight=1.5)
def analyze(draw: Draw) -> Statement | None:
    """The stream announces the table again after it."""
    return _on(Kind.ANALYZE, _any_table(draw), "ANALYZE {}")


@form(weight=0.7)
def reindex(draw: Draw) -> Statement | None:
    """All indexes of a table."""
    return _on(
        Kind.REINDEX,
        draw.any(one for one in draw.catalog.tables.values() if one.kind == "r"),
        "REINDEX TABLE {}",
    )


@form(weight=1.5)
def create_index(draw: Draw) -> Statement | None:
    """Perhaps a unique or a partial one."""
    table = draw.table()
    column = draw.any(table.columns) if table else None
    if table is None or column is None:
        return None
    unique = draw.pick.choice(("", "UNIQUE "))
    partial = draw.pick.choice(("", "", f" WHERE {quoted(column.name)} IS NOT NULL"))
    name = draw.name("index_")
    return _on(Kind.INDEX, table, f"CREATE {unique}INDEX {name} ON {{}} ({quoted(column.name)}){partial}")


@form(weight=1.5)
def drop_index(draw: Draw) -> Statement | None:
    """One that no constraint needs."""
    free = [
        (table, index)
        for table in draw.catalog.tables.values()
        for index in table.indexes
        if not index.is_of_constraint and not table.is_partition
    ]
    found = draw.any(free)
    if found is None:
        return None
    table, index = found
    return _on(Kind.INDEX, table, f"DROP INDEX {table.schema}.{quoted(index.name)}")


@form()
def comment(draw: Draw) -> Statement | None:
    """On a table or a column."""
    table = _any_table(draw)
    column = draw.any(table.columns) if table else None
    if table is None or column is None:
        return None
    sql = draw.pick.choice(("TABLE {}", f"COLUMN {{}}.{quoted(column.name)}"))
    return _on(Kind.COMMENT, table, f"COMMENT ON {sql} IS 'note {draw.next()}'")


@form()
def privilege(draw: Draw) -> Statement | None:
    """GRANT and REVOKE."""
    verb = draw.pick.choice(("GRANT SELECT ON {} TO PUBLIC", "REVOKE ALL ON {} FROM PUBLIC"))
    return _on(Kind.PRIVILEGE, _any_table(draw), verb)


def _member(draw: Draw) -> Table | None:
    publication = draw.catalog.publication
    members = publication.members if publication else frozenset()
    return draw.any(one for oid, one in draw.catalog.tables.items() if oid in members)


def _publication(kind: Kind, draw: Draw, action: str, *tables: str) -> Statement:
    return Statement(kind, f"ALTER PUBLICATION {draw.publication} {action}", tables)


@form(weight=1.2)
def leave_publication(draw: Draw) -> Statement | None:
    """Changes that follow are lost."""
    table = _member(draw)
    if table is None:
        return None
    leave = _publication(Kind.PUBLICATION_LEAVE, draw, f"DROP TABLE {table.full_name}", table.full_name)
    if draw.pick.random() < 0.5:
        return leave
    back = f"; ALTER PUBLICATION {draw.publication} ADD TABLE {table.full_name}"
    return Statement(leave.kind, leave.sql + back, leave.tables)


@form(weight=0.8)
def set_publication(draw: Draw) -> Statement | None:
    """To a single table; all others leave, also those that the server adds meanwhile."""
    table = _any_table(draw)
    if table is None or draw.catalog.publication is None:
        return None
    others = (one.full_name for oid, one in draw.catalog.tables.items() if oid != table.oid)
    action = f"SET TABLE {table.full_name}"
    return _publication(Kind.PUBLICATION_LEAVE, draw, action, *others)


@form(weight=0.8)
def join_publication(draw: Draw) -> Statement | None:
    """A table that the server does not need there."""
    publication = draw.catalog.publication
    if publication is None:
        return None
    others = (one for oid, one in draw.catalog.tables.items() if oid not in publication.members)
    table = draw.any(one for one in others if not one.is_partition)
    if table is None:
        return None
    return _publication(Kind.PUBLICATION_JOIN, draw, f"ADD TABLE {table.full_name}", table.full_name)


@form(weight=0.6, since=15)
def narrow_publication(draw: Draw) -> Statement | None:
    """A row filter or a column list; whole again if there is one."""
    publication = draw.catalog.publication
    narrowed = publication.narrowed if publication else frozenset()
    table = draw.any(one for oid, one in draw.catalog.tables.items() if oid in narrowed)
    suffix = ""
    if table is None:
        table = _member(draw)
        suffix = draw.pick.choice(
            (" WHERE (false)", f" ({', '.join(map(quoted, table.key))})" if table else "")
        )
    if table is None or table.kind == "p" or (table.oid not in narrowed and not table.key):
        return None
    sql = (
        f"ALTER PUBLICATION {draw.publication} DROP TABLE {table.full_name};"
        f"ALTER PUBLICATION {draw.publication} ADD TABLE {table.full_name}{suffix}"
    )
    return Statement(Kind.PUBLICATION_NARROW, sql, (table.full_name,))


@form(weight=0.8)
def publication_operations(draw: Draw) -> Statement | None:
    """Fewer; all again if some are missing."""
    publication = draw.catalog.publication
    if publication is None:
        return None
    few = draw.pick.choice(("insert", "insert, update", "insert, update, delete"))
    wanted = few if publication.publishes_all else "insert, update, delete, truncate"
    return _publication(Kind.PUBLICATION_OPERATIONS, draw, f"SET (publish = '{wanted}')")


@form(weight=0.2)
def drop_publication(draw: Draw) -> Statement | None:
    """It has to be made again."""
    if draw.catalog.publication is None:
        return None
    return Statement(Kind.DROP_PUBLICATION, f"DROP PUBLICATION {draw.publication}")
