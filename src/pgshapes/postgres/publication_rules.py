"""What a publication must be like for a table to be followed, and what to do if it is not. Pure.

What the table itself must be like is in `model.followable`. Invariant: an `Obstacle` is returned before
anything is altered, and waiting does not remove it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgshapes.errors import SchemaChanged
from pgshapes.model.followable import Obstacle
from pgshapes.model.quoting import display_name, qualified_name, quote_identifier
from pgshapes.model.relation import Relation
from pgshapes.postgres.publication_sql import TableState, generated_statement
from pgshapes.postgres.refusals import known_refusal


def check_table(state: TableState, relation: Relation) -> None:
    """Raise SchemaChanged if the table no longer has the name of `relation`."""
    if (state.schema, state.name) != (relation.schema, relation.name):
        shown = display_name(relation.schema, relation.name)
        raise SchemaChanged(f'Database table "{shown}" has been dropped or renamed')


def check_exists(state: TableState, publication: str) -> None:
    """Raise NotNow if there is no publication: it is created again when the replicator reconnects."""
    if not state.has_publication:
        raise known_refusal(f'Publication "{publication}" not found in the database')


def find_publication_obstacle(state: TableState, publication: str, *, is_manual: bool) -> Obstacle | None:
    """Why the table cannot be followed with this publication, which exists; None if it can."""
    may_alter = state.is_publication_ours and not is_manual
    return (
        _of_operations(state, publication)
        or _of_parameters(state, publication, may_alter=may_alter)
        or _of_rights(state, publication, is_manual=is_manual)
        or _of_other_publications(state)
    )


def _of_operations(state: TableState, publication: str) -> Obstacle | None:
    if state.publishes_all_operations:
        return None
    name = quote_identifier(publication)
    return Obstacle(
        f'Publication "{publication}" does not publish all required operations:'
        " INSERT, UPDATE, DELETE, TRUNCATE",
        "let it publish them",
        (f"ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')",),
    )


def _of_parameters(state: TableState, publication: str, *, may_alter: bool) -> Obstacle | None:
    name = quote_identifier(publication)
    if state.narrowed:
        return Obstacle(
            f'Publication "{publication}" has a row filter or a column list for the table'
            f" {state.narrowed[0]}, so that changes would be missed",
            "publish the table without them",
            tuple(
                f"ALTER PUBLICATION {name} {action} TABLE {table}"
                for table in state.narrowed
                for action in ("DROP", "ADD")
            ),
        )
    if state.publishes_via_root and (state.kind == "p" or state.is_partition):
        return Obstacle(
            f'Publication "{publication}" has publish_via_partition_root = true, with which a TRUNCATE of a'
            " partition is not published",
            "set it to false",
            (f"ALTER PUBLICATION {name} SET (publish_via_partition_root = false)",),
        )
    if state.has_stored_generated and not state.publishes_generated and not may_alter:
        return Obstacle(
            f'Publication "{publication}" does not publish generated columns, and the table has some, so that'
            " UPDATE and DELETE fail with REPLICA IDENTITY FULL",
            "let it publish them",
            (generated_statement(publication),),
            breaks_writes=True,
        )
    return None


def _of_rights(state: TableState, publication: str, *, is_manual: bool) -> Obstacle | None:
    shown = display_name(state.schema or "", state.name or "")
    may_alter = state.is_publication_ours and not is_manual
    statements = tuple(_manual_statements(state, publication))
    if state.membership is None and not may_alter:
        cause = (
            "the ELECTRIC_MANUAL_TABLE_PUBLISHING setting prevents Electric from adding it"
            if is_manual
            else "Electric lacks privileges to add it"
        )
        reason = f'Database table "{shown}" is missing from the publication "{publication}" and {cause}'
        return Obstacle(reason, "publish it with REPLICA IDENTITY FULL", statements)
    if state.not_full and not may_alter:
        reason = f'Database table "{shown}" does not have its replica identity set to FULL'
        return Obstacle(reason, "set it, on its partitions, too", statements)
    foreign = [part.name for part in state.not_full if not part.is_ours]
    if state.membership is None and not state.is_ours:
        foreign.insert(0, state.name or "")
    if not foreign:
        return None
    table = qualified_name(state.schema or "", state.name or "")
    return Obstacle(
        f"must be owner of table {foreign[0]}, which the role of the server is not",
        "make that role the owner, or a member of the owner, or publish the table with REPLICA IDENTITY FULL",
        (f"ALTER TABLE {table} OWNER TO {state.role}", *(f"or: {statement}" for statement in statements)),
    )


def _manual_statements(state: TableState, publication: str) -> Iterator[str]:
    """What the owner of table and publication runs in our place."""
    for part in state.not_full:
        yield f"ALTER TABLE ONLY {qualified_name(part.schema, part.name)} REPLICA IDENTITY FULL"
    if state.membership is None:
        table = qualified_name(state.schema or "", state.name or "")
        yield f"ALTER PUBLICATION {quote_identifier(publication)} ADD TABLE {table}"


def _of_other_publications(state: TableState) -> Obstacle | None:
    if not state.not_full or not state.breaks_in:
        return None
    other = state.breaks_in[0]
    return Obstacle(
        f'with REPLICA IDENTITY FULL, UPDATE and DELETE would fail because of the publication "{other}",'
        " which has a column list for it or does not publish its generated columns",
        "publish all columns there",
        tuple(
            statement
            for name in state.breaks_in
            for statement in (
                f"ALTER PUBLICATION {quote_identifier(name)} DROP TABLE"
                f" {qualified_name(state.schema or '', state.name or '')}",
                f"or: {generated_statement(name)}",
            )
        ),
    )
