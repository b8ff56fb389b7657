"""Why a relation cannot be followed, and the SQL that cures it. Pure.

`structural_problem` is about what the relation is, whoever asks; the rest is about what our role may do with
it. The checks use only `table_problems`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from pgshapes.doctor.facts import Facts, Needs
from pgshapes.doctor.quoting import sql_name
from pgshapes.doctor.table_facts import PartFacts, TableFacts

_OTHER_KINDS: Final = {
    "v": "is a view: request the tables that it reads",
    "m": "is a materialised view: request the tables that it reads",
    "f": "is a foreign table: follow it in the database that has its rows",
    "S": "is a sequence",
    "c": "is a composite type",
    "i": "is an index",
    "I": "is an index",
    "t": "is a TOAST table",
}
_REPLICATES_GENERATED: Final = 180000


class Problem(NamedTuple):
    """A reason why a relation cannot be followed."""

    reason: str
    """Follows the name of the relation."""
    sql: tuple[str, ...] = ()


def table_problems(table: TableFacts, facts: Facts, needs: Needs) -> list[Problem]:
    """All reasons why shapes on the table are refused; empty if it can be followed."""
    structural = structural_problem(table)
    if table.kind not in ("r", "p") or table.is_system:
        return [] if structural is None else [structural]
    found = [] if structural is None else [structural]
    found += _parts_without_changes(table)
    found += _reading(table, facts.role.name)
    found += _generated(table, facts, needs)
    found += _publishing(table, facts, needs)
    return found


def structural_problem(table: TableFacts) -> Problem | None:
    """Why nobody can follow the relation as it is; None if it can be followed."""
    name = sql_name(table.schema, table.name)
    if table.kind in _OTHER_KINDS:
        return Problem(_OTHER_KINDS[table.kind])
    if table.is_system:
        return Problem("belongs to Postgres itself, and its changes are not replicated")
    if table.persistence == "t":
        return Problem("is temporary: other sessions cannot see it")
    if table.persistence == "u":
        return Problem("is unlogged: its changes are not in the WAL", (f"ALTER TABLE {name} SET LOGGED;",))
    if table.is_inherited:
        return Problem("has rows in tables that inherit from it: request those, or partition it instead")
    if table.virtual_columns:
        return _virtual(table, name)
    return None if table.key else _no_key(table, name)


def _virtual(table: TableFacts, name: str) -> Problem:
    steps = [
        f"ALTER TABLE {name} DROP COLUMN {sql_name(column.name)}, ADD COLUMN {sql_name(column.name)}"
        f" {column.type} GENERATED ALWAYS AS ({column.expression}) STORED;"
        for column in table.virtual_columns
    ]
    names = ", ".join(column.name for column in table.virtual_columns)
    reason = f"has a virtual generated column ({names}): with REPLICA IDENTITY FULL its UPDATE would fail"
    return Problem(reason, tuple(steps))


def _no_key(table: TableFacts, name: str) -> Problem:
    if table.deferrable_key is not None:
        constraint, definition = table.deferrable_key
        quoted = sql_name(constraint)
        return Problem(
            "has a deferrable primary key: rows may share a key while it is changed",
            (f"ALTER TABLE {name} DROP CONSTRAINT {quoted}, ADD CONSTRAINT {quoted} {definition};",),
        )
    if table.kind == "p":
        add = f"ALTER TABLE {name} ADD PRIMARY KEY (…);"
        return Problem("is partitioned and has no primary key: UPDATE fails on a new partition", (add,))
    return Problem(
        "has no primary key and no unique index on columns that are NOT NULL: equal rows are one row",
        (f"ALTER TABLE {name} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;",),
    )


def _parts_without_changes(table: TableFacts) -> Iterator[Problem]:
    for part in table.parts if table.kind == "p" else ():
        name = sql_name(part.schema, part.name)
        if part.kind == "f":
            detach = f"ALTER TABLE {sql_name(table.schema, table.name)} DETACH PARTITION {name};"
            yield Problem(f"has a partition that is a foreign table ({part.name})", (detach,))
        elif part.persistence == "u":
            yield Problem(
                f"has a partition that is unlogged ({part.name})", (f"ALTER TABLE {name} SET LOGGED;",)
            )


def _reading(table: TableFacts, role: str) -> Iterator[Problem]:
    name, grantee = sql_name(table.schema, table.name), sql_name(role)
    if not table.may_use_schema:
        grant = f"GRANT USAGE ON SCHEMA {sql_name(table.schema)} TO {grantee};"
        yield Problem(f"is in a schema that {role} may not use", (grant,))
    if not table.may_select:
        some = " all of its columns" if table.may_select_some else ""
        yield Problem(
            f"may not be read by {role}{some and ':' + some}", (f"GRANT SELECT ON {name} TO {grantee};",)
        )
    if table.has_row_security:
        cure = f"ALTER ROLE {grantee} BYPASSRLS;"
        if table.is_ours:
            cure = f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY;"
        yield Problem(f"has row-level security that applies to {role}", (cure,))


def _generated(table: TableFacts, facts: Facts, needs: Needs) -> Iterator[Problem]:
    if not table.has_stored_columns or facts.server.version_number < _REPLICATES_GENERATED:
        return
    if facts.publication is not None and not facts.publication.publishes_generated:
        sql = f"ALTER PUBLICATION {sql_name(needs.publication)} SET (publish_generated_columns = stored);"
        reason = "has a generated column, which the publication leaves out: its UPDATE would fail"
        yield Problem(reason, (sql,))


def _publishing(table: TableFacts, facts: Facts, needs: Needs) -> Iterator[Problem]:
    name, publication = sql_name(table.schema, table.name), sql_name(needs.publication)
    add = f"ALTER PUBLICATION {publication} ADD TABLE {name};"
    if table.is_partly_published:
        drop = f"ALTER PUBLICATION {publication} DROP TABLE {name};"
        yield Problem("is published with a row filter or a column list", (drop, add))
    if needs.is_manual:
        yield from _by_hand(table, add)
    else:
        yield from _by_us(table, facts)


def _by_hand(table: TableFacts, add: str) -> Iterator[Problem]:
    """With `manual_table_publishing` everything must have been done."""
    if not table.is_published:
        yield Problem("is not in the publication, and manual_table_publishing is set", (add,))
    steps = tuple(
        f"ALTER TABLE {sql_name(part.schema, part.name)} REPLICA IDENTITY FULL;" for part in _not_full(table)
    )
    if steps:
        yield Problem("does not have REPLICA IDENTITY FULL, and manual_table_publishing is set", steps)


def _by_us(table: TableFacts, facts: Facts) -> Iterator[Problem]:
    """Our role must own what it has to alter."""
    role = sql_name(facts.role.name)
    if not table.is_ours and (not table.is_published or _not_full(table)):
        grant = f"GRANT {sql_name(table.owner)} TO {role};"
        if table.is_owner_superuser:
            grant = f"ALTER TABLE {sql_name(table.schema, table.name)} OWNER TO {role};"
        yield Problem(f"is owned by {table.owner}, and {facts.role.name} cannot publish it", (grant,))
        return
    foreign = [part for part in _not_full(table) if not part.is_ours]
    if foreign:
        names = ", ".join(part.name for part in foreign)
        sql = [f"ALTER TABLE {sql_name(part.schema, part.name)} OWNER TO {role};" for part in foreign]
        yield Problem(f"has partitions with other owners ({names})", tuple(sql))


def _not_full(table: TableFacts) -> list[PartFacts]:
    return [part for part in table.parts if not part.is_full and part.kind in ("r", "p")]
