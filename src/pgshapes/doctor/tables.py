"""Checks of tables: which can be followed, and why others cannot. Pure.

Without names all tables are checked, and those with the same problem share a line if there are many. Views
and foreign tables are only counted then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from pgshapes.doctor.facts import Facts, Needs
from pgshapes.doctor.finding import Finding, fails, warns, works
from pgshapes.doctor.table_facts import TableFacts
from pgshapes.doctor.table_problems import Problem, table_problems
from pgshapes.model.quoting import display_name

TABLE_KINDS: Final = ("r", "p")
MOST_LINES: Final = 3
"""Tables with one problem that get a line each; more share a line."""
_NAMES_SHOWN: Final = 10


def check_tables(tables: Sequence[TableFacts], facts: Facts, needs: Needs) -> Iterator[Finding]:
    """The tables that are asked about, or all."""
    if needs.tables:
        yield from _named(tables, facts, needs)
    else:
        yield from _all(tables, facts, needs)


def _named(tables: Sequence[TableFacts], facts: Facts, needs: Needs) -> Iterator[Finding]:
    found = {(table.schema, table.name): table for table in tables}
    for name in needs.tables:
        subject = f"table {display_name(*name)}"
        if name not in found:
            yield fails(subject, "does not exist: names with capitals or special characters need quotes")
            continue
        problems = table_problems(found[name], facts, needs)
        for problem in problems:
            yield fails(subject, problem.reason, *problem.sql)
        if not problems:
            yield works(subject, _followable(found[name]))


def _followable(table: TableFacts) -> str:
    identity = "FULL" if all(part.is_full for part in table.parts) else "will be set to FULL"
    published = "published" if table.is_published else "will be published"
    return f"can be followed: key ({', '.join(table.key)}), replica identity {identity}, {published}"


def _all(tables: Sequence[TableFacts], facts: Facts, needs: Needs) -> Iterator[Finding]:
    real = [table for table in tables if table.kind in TABLE_KINDS]
    if needs.is_manual:
        yield from _left_out(real)
        real = [table for table in real if table.is_published]
    by_problem: dict[str, list[tuple[TableFacts, Problem]]] = defaultdict(list)
    followed = []
    for table in real:
        problems = table_problems(table, facts, needs)
        if not problems:
            followed.append(table)
        for problem in problems:
            by_problem[problem.reason].append((table, problem))
    yield _summary(real, followed)
    yield from _identities(followed, needs)
    for reason, affected in by_problem.items():
        yield from _affected(reason, affected)
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


def _identities(followed: Sequence[TableFacts], needs: Needs) -> Iterator[Finding]:
    if not followed:
        return
    full = sum(all(part.is_full for part in table.parts) for table in followed)
    rest = "; it is set when a shape on a table is requested" if full < len(followed) else ""
    yield works("replica identity", f"FULL on {full} of {_tables(len(followed))}{rest}")


def _affected(reason: str, affected: Sequence[tuple[TableFacts, Problem]]) -> Iterator[Finding]:
    if len(affected) <= MOST_LINES:
        for table, problem in affected:
            yield fails(f"table {_shown(table)}", reason, *problem.sql)
        return
    names = [_shown(table) for table, _ in affected]
    statements = list(dict.fromkeys(sql for _, problem in affected for sql in problem.sql))
    shown = statements[:_NAMES_SHOWN]
    if len(statements) > len(shown):
        shown.append(f"-- and {len(statements) - len(shown)} more; --table NAME has those of one table")
    yield fails(f"{len(names)} tables", f"each {reason}: {_listed(names)}", *shown)


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
