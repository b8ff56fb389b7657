"""Holds what followers received against what Postgres had, and refetches against the rules. No I/O.

Invariant: the timeline of a shape has its rows after each commit, in order. A follower that was up to date
must have had one of these states, none of them before an earlier one; so half of a transaction, a lost change
and a change that came too often are seen even if a later refetch hides them. State: the judge's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tests.oracle.ddl.follower import Record, Refetched
from tests.oracle.ddl.rules import OF_TYPES, Permission
from tests.oracle.ddl.shapes import Expected, Rows, Shape
from tests.oracle.ddl.statements import Kind, Statement

KEPT_PERMISSIONS = 4000
KEPT_STATES = 400
LATEST_S = 30.0
"""A follower that was right only after this time fails the run."""


@dataclass
class Violation:
    """Something that must not happen."""

    what: str
    shape: Shape | None
    detail: str
    recent: tuple[Statement, ...]
    """The statements of the step that concern the shape's table."""

    @property
    def cause(self) -> str:
        """What happened, and with which kinds of statements."""
        kinds = sorted({one.kind.value for one in self.recent if one.kind.is_ddl})
        return f"{self.what}, with {', '.join(kinds) or 'dml'}"

    def __str__(self) -> str:
        lines = [f"{self.what}: {self.shape or ''}", f"    {self.detail[-600:]}"]
        return "\n".join(lines + [f"    {one.kind.value}: {one.sql}" for one in self.recent])


@dataclass
class Totals:
    """The figures of a run."""

    ran: Counter[Kind] = field(default_factory=Counter)
    failed: Counter[Kind] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """First lines of Postgres's errors."""
    transactions: int = 0
    settles: int = 0
    shapes: int = 0
    observed: int = 0
    refetches: Counter[Kind] = field(default_factory=Counter)
    """Those that a rule permits, by the latest statement that does."""
    unruled: Counter[tuple[Kind, ...]] = field(default_factory=Counter)
    """Those that no rule permits, by the kinds of statements in the step."""
    unruled_examples: list[Violation] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    late: list[tuple[float, Violation]] = field(default_factory=list)
    """Followers that were right in the end, but not at the deadline: after how many seconds."""
    longest_settle_s: float = 0.0
    settling_s: float = 0.0

    @property
    def ddl(self) -> int:
        """Statements other than DML that have run."""
        return sum(count for kind, count in self.ran.items() if kind.is_ddl)

    @property
    def unruled_share(self) -> float:
        """The part of the refetches that no rule permits."""
        return self.unruled.total() / max(1, self.unruled.total() + self.refetches.total())

    @property
    def longest_late_s(self) -> float:
        """How long the latest follower was not right; 0 without one that was late."""
        return max((took_s for took_s, _ in self.late), default=0.0)

    @property
    def failure(self) -> str | None:
        """Why the run has failed, apart from refetches by no rule; None if it has not."""
        if self.violations:
            return str(self.violations[0])
        return self._late_text() if self.longest_late_s > LATEST_S else None

    def _late_text(self) -> str:
        return f"late followers {len(self.late)}, longest {self.longest_late_s:.1f} s"

    def report(self) -> str:
        """The figures as text."""
        lines = [
            f"statements {self.ddl} and {self.ran[Kind.DML]} of DML in {self.transactions} transactions;"
            f" refused by Postgres {self.failed.total()}",
            f"shapes {self.shapes}, states compared {self.observed}, steps {self.settles},"
            f" longest settle {self.longest_settle_s:.1f} s,"
            f" mean {self.settling_s / max(1, self.settles):.2f} s",
            f"refetches {self.refetches.total()} by a rule, {self.unruled.total()} by none"
            f" ({self.unruled_share:.1%})",
            f"violations {len(self.violations)}",
            self._late_text(),
            "by kind: run, refused by Postgres, refetches",
        ]
        for kind in Kind:
            if self.ran[kind] or self.failed[kind]:
                counts = f"{self.ran[kind]:6d} {self.failed[kind]:5d} {self.refetches[kind]:6d}"
                lines.append(f"  {counts}  {kind.value}")
        for kinds, count in self.unruled.most_common(15):
            lines.append(f"  {count:6d}  by no rule, with {', '.join(kind.value for kind in kinds)}")
        causes = Counter(one.cause for one in self.violations)
        lines += [f"  {count:6d}  violations: {cause}" for cause, count in causes.most_common(30)]
        latest = sorted(self.late, key=lambda one: -one[0])[:20]
        late = [f"after {took_s:.1f} s {one}" for took_s, one in latest]
        shown = (*self.unruled_examples[:20], *late, *self.violations[:20])
        return "\n".join((*lines, *map(str, shown)))


@dataclass
class Timeline:
    """The states of one shape, and how far one follower has come."""

    states: list[Rows | None] = field(default_factory=list)
    place: int | None = None
    """None until the first state of a handle has been found."""
    handle: str = ""

    def append(self, expected: Expected) -> None:
        """The state after a commit."""
        rows = None if expected.has_equal_rows else expected.rows
        if not self.states or self.states[-1] != rows:
            self.states.append(rows)
        if len(self.states) > KEPT_STATES:
            cut = self.place if self.place is not None else KEPT_STATES // 2
            del self.states[:cut]
            self.place = None if self.place is None else 0

    def find(self, handle: str, rows: Rows) -> bool:
        """Go on to the state; False if there is none from the present one on."""
        if handle != self.handle:
            self.handle, self.place = handle, None
        start = self.place or 0
        found = next((place for place in range(start, len(self.states)) if self.states[place] == rows), None)
        # The first state of a handle may be from before this follower.
        is_known = found is not None or self.place is None
        self.place = found if found is not None else self.place
        return is_known


class Judge:
    """Collects permissions, and turns records into figures and violations."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.compares_states = True
        """Whether timelines are complete: they are not if others write, too."""
        self.step: list[Statement] = []
        """The committed statements since the last settle."""
        self.deleted: set[str] = set()
        """Handles that a client has deleted: their 409 is due to no statement."""
        self._earlier: list[Statement] = []
        self._permissions: list[Permission] = []

    def permit(self, permissions: Iterable[Permission]) -> None:
        """What was committed may end shapes."""
        self._permissions.extend(permissions)
        del self._permissions[:-KEPT_PERMISSIONS]

    def permit_again(self, began: float, since: float) -> None:
        """A transaction that began then was committed: it is older than changes of types since."""
        later = [one for one in self._permissions if began < one.since < since and one.kind in OF_TYPES]
        self.permit([replace(one, since=since) for one in later])

    def permission(self, shape: Shape, born: float) -> Permission | None:
        """The latest permission to end a handle of the shape that was born then."""
        return next(
            (one for one in reversed(self._permissions) if one.since >= born and one.concerns(shape)), None
        )

    def take(self, shape: Shape, timeline: Timeline, record: Record, born: float) -> None:
        """Judge what a follower recorded; `born` is that of its present handle."""
        for fault in record.faults:
            self.violate("a message that does not fit", shape, fault)
        for refetch in record.refetched:
            if refetch.handle not in self.deleted:
                self._classify(shape, refetch)
        for observed in record.observed:
            self.totals.observed += 1
            is_ended = self.permission(shape, born) is not None or bool(record.refetched)
            is_ended |= not self.compares_states
            if not timeline.find(observed.handle, observed.rows) and not is_ended:
                self.violate("rows that the table never had", shape, str(list(observed.rows)))

    def violate(self, what: str, shape: Shape | None, detail: str) -> None:
        """Note a violation."""
        self.totals.violations.append(Violation(what, shape, detail, self._recent(shape, self.step)))

    def be_late(self, what: str, shape: Shape, took_s: float) -> None:
        """Note a follower that was right only after the deadline."""
        self.totals.late.append((took_s, Violation(what, shape, "late", self._recent(shape, self.step))))

    def end_step(self) -> None:
        """What is committed from now on belongs to another step."""
        self._earlier, self.step = self.step, []

    @staticmethod
    def _recent(shape: Shape | None, step: list[Statement]) -> tuple[Statement, ...]:
        """All DDL, and the DML of the shape's table."""
        return tuple(one for one in step if one.kind.is_ddl or not shape or shape.table in one.tables)[-12:]

    def _classify(self, shape: Shape, refetch: Refetched) -> None:
        permission = self.permission(shape, refetch.born)
        if permission is not None:
            self.totals.refetches[permission.kind] += 1
            return
        recent = self._recent(shape, [*self._earlier, *self.step])
        detail = f"handle {refetch.handle or 'none'}"
        self.totals.unruled_examples.append(Violation("a refetch by no rule", shape, detail, recent))
        kinds = {one.kind for one in self.step if one.kind.is_ddl}
        self.totals.unruled[tuple(sorted(kinds, key=lambda kind: kind.value))] += 1
