"""Checks of tables: which can be followed, and why others cannot. Pure.

Without names all tables are checked, and those with the same problem share a line if there are many. Views
and foreign tables are only counted then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from pgshapes.doctor.facts import Needs
from pgshapes.doctor.finding import Finding, fails, warns, works
from pgshapes.doctor.table_facts import TableFacts
from pgshapes.model.followable import Obstacle
from pgshapes.model.quoting import display_name, qualified_name

TABLE_KINDS: Final = ("r", "p")
MOST_LINES: Final = 3
"""Tables with one problem that get a line each; more share a line."""
_NAMES_SHOWN: Final = 10
_STATEMENTS_SHOWN: Final = 10
_COMMENT: Final = "--"
_ALTERNATIVE: Final = "or: "
"""Before a statement of an obstacle that cures it in another way than the ones before."""


def check_tables(tables: Sequence[TableFacts], needs: Needs) -> Iterator[Finding]:
    """The tables that are asked about, or all."""
    if needs.tables:
        yield from _named(tables, needs)
    else:
        yield from _all(tables, needs)


def _named(tables: Sequence[TableFacts], needs: Needs) -> Iterator[Finding]:
    found = {(table.schema, table.name): table for table in tables}
    for name in needs.tables:
        subject = f"table {display_name(*name)}"
        if name not in found:
            yield fails(subject, "does not exist: names with capitals or special characters need quotes")
            continue
        for obstacle in found[name].obstacles:
            yield fails(subject, f"{obstacle.reason}: {obstacle.advice}", *statements(obstacle))
        if not found[name].obstacles:
            yield works(subject, _followable(found[name]))


def _followable(table: TableFacts) -> str:
    identity = "FULL" if table.is_full else "will be set to FULL"
    published = "published" if table.is_published else "will be published"
    return f"can be followed: key ({', '.join(table.key)}), replica identity {identity}, {published}"


def _all(tables: Sequence[TableFacts], needs: Needs) -> Iterator[Finding]:
    real = [table for table in tables if table.kind in TABLE_KINDS]
    if needs.is_manual:
        yield from _left_out(real)
        real = [table for table in real if table.is_published]
    followed = [table for table in real if not table.obstacles]
    yield _summary(real, followed)
    yield from _identities(followed)
    by_cause: dict[str, list[tuple[TableFacts, Obstacle]]] = defaultdict(list)
    for table in real:
        for obstacle in table.obstacles:
            by_cause[_cause(table, obstacle)].append((table, obstacle))
    for cause, affected in by_cause.items():
        yield from _affected(cause, affected)
    yield from _other_relations([table for table in tables if table.kind not in TABLE_KINDS])


def _left_out(real: Sequence[TableFacts]) -> Iterator[Finding]:
    count = sum(not table.is_published for table in real)
    if count:
        yield warns("tables", f"{_tables(count)} not in the publication (manual_table_publishing is set)")


def _summary(real: Sequence[TableFacts], followed: Sequence[TableFacts]) -> Finding:
    if not real:
        return works("tables", "there are none yet")
    text = f"{len(followed)} of {_tables(len(real))} can be followed"
    if not followed:
        return fails("tables", text)
    return works("tables", text) if len(followed) == len(real) else warns("tables", text)


def _identities(followed: Sequence[TableFacts]) -> Iterator[Finding]:
    if not followed:
        return
    full = sum(table.is_full for table in followed)
    rest = "; it is set when a shape on a table is requested" if full < len(followed) else ""
    yield works("replica identity", f"FULL on {full} of {_tables(len(followed))}{rest}")


def _cause(table: TableFacts, obstacle: Obstacle) -> str:
    """The reason without the name of the table, so that tables with the same one can be found."""
    text = f"{obstacle.reason}: {obstacle.advice}"
    for name in (qualified_name(table.schema, table.name), f'"{_shown(table)}"', f"table {table.name}"):
        text = text.replace(name, "table …" if name.startswith("table ") else "…")
    return text


def _affected(cause: str, affected: Sequence[tuple[TableFacts, Obstacle]]) -> Iterator[Finding]:
    if len(affected) <= MOST_LINES:
        for table, obstacle in affected:
            text = f"{obstacle.reason}: {obstacle.advice}"
            yield fails(f"table {_shown(table)}", text, *statements(obstacle))
        return
    names = [_shown(table) for table, _ in affected]
    every = dict.fromkeys(each for _, obstacle in affected for each in statements(obstacle))
    sql = [each for each in every if not each.startswith(_COMMENT)]
    shown = sql[:_STATEMENTS_SHOWN]
    if len(sql) > len(shown):
        shown.append(f"{_COMMENT} and {len(sql) - len(shown)} more; --table NAME has those of one table")
    yield fails(f"{len(names)} tables", f"each: {cause}: {_listed(names)}", *shown)


def statements(obstacle: Obstacle) -> list[str]:
    """The SQL of an obstacle as it can be pasted; alternatives are comments."""
    return [
        f"{_COMMENT} or: {statement.removeprefix(_ALTERNATIVE)};"
        if statement.startswith(_ALTERNATIVE)
        else f"{statement};"
        for statement in obstacle.statements
    ]


def _other_relations(others: Sequence[TableFacts]) -> Iterator[Finding]:
    names = {"v": "views", "m": "materialised views", "f": "foreign tables"}
    for kind, plural in names.items():
        of_kind = [_shown(table) for table in others if table.kind == kind]
        if of_kind:
            text = f"cannot be followed, only the tables that have the rows: {_listed(of_kind)}"
            yield warns(plural, text)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _shown(table: TableFacts) -> str:
    return display_name(table.schema, table.name)


def _tables(count: int) -> str:
    return f"{count} table" if count == 1 else f"{count} tables"
