"""What a check of the database found: a mark, a subject, a text, and the SQL that cures it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from pgshapes.doctor.printable import printable_sql


class Mark(Enum):
    """Whether what was checked works."""

    WORKS = "✓"
    WARNS = "!"
    """It works, and may stop working or surprise."""
    FAILS = "✗"
    """It will not work before something is changed."""


class Finding(NamedTuple):
    """One line of `pgshapes doctor`."""

    mark: Mark
    subject: str
    text: str
    sql: tuple[str, ...] = ()
    """Statements that cure it, each on one line."""


def works(subject: str, text: str) -> Finding:
    """A finding that nothing has to be changed."""
    return Finding(Mark.WORKS, subject, text)


def warns(subject: str, text: str, *sql: str) -> Finding:
    """A finding that somebody should know."""
    return Finding(Mark.WARNS, subject, text, tuple(map(printable_sql, sql)))


def fails(subject: str, text: str, *sql: str) -> Finding:
    """A finding that something has to be changed."""
    return Finding(Mark.FAILS, subject, text, tuple(map(printable_sql, sql)))


def failing(findings: Iterable[Finding]) -> list[Finding]:
    """Those that have to be cured."""
    return [finding for finding in findings if finding.mark is Mark.FAILS]
