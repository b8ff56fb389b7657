"""What must not happen, and which refetches a rule demands. No I/O.

A refetch is demanded if a statement or a fault after the birth of its handle may end the shape. Refetches are
judged at the end of a batch, when everything that was committed is known. State: the judge's own.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.oracle.ddl.rules import RULES, Permission, Reach
from tests.oracle.ddl.shapes import Shape
from tests.oracle.ddl.statements import Kind, Statement
from tests.support.torture.definitions import Watched

NOT_COMPLETE = "the snapshot was not complete"
RECORDING_S = 1.0
"""Rows are served before the files are synced and the catalogue records it: so long after its birth a shape
may be lost that a client has read to the end.
"""


@dataclass(frozen=True)
class Demand:
    """A reason for refetches, of the handles that were born before it."""

    since: float
    rule: str
    concerns: Callable[[Shape], bool]


@dataclass(frozen=True)
class Refetch:
    """A 409 that a client was given."""

    watched: Watched
    client: str
    handle: str
    """Empty if the client had none yet."""
    born: float


@dataclass(frozen=True)
class Violation:
    """Something that must not happen, and where."""

    what: str
    client: str
    detail: str
    batch: int
    faults: tuple[str, ...] = ()
    """Those of the batch that had begun."""

    def __str__(self) -> str:
        faults = ", ".join(self.faults) or "none"
        return (
            f"batch {self.batch}: {self.what}: {self.client}\n    {self.detail[:1500]}"
            f"\n    faults of the batch so far: {faults}"
        )


@dataclass
class Totals:
    """The figures of a run."""

    batches: int = 0
    transactions: int = 0
    rolled_back: int = 0
    statements: int = 0
    changes: int = 0
    """Of rows, in transactions that were committed."""
    messages: int = 0
    answers: int = 0
    states: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refetches: Counter[str] = field(default_factory=Counter)
    """Those that a rule demands, by rule."""
    undemanded: list[Violation] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    """The first of its sort for each client and batch."""
    repeated: int = 0
    """Further ones: a client that begins again reads the same log."""
    errors: Counter[str] = field(default_factory=Counter)
    """Of writers, by the first line of Postgres's text."""
    longest_silence_s: float = 0.0
    longest_settle_s: float = 0.0
    left_sse: int = 0
    """How often the published client went from streams to long polls."""

    @property
    def has_failed(self) -> bool:
        """Whether anything happened that must not."""
        return bool(self.violations or self.undemanded)

    def whats(self) -> Counter[str]:
        """What must not happen and did, and how often."""
        return Counter(one.what for one in [*self.violations, *self.undemanded])

    def line(self) -> str:
        """The figures in one line."""
        return (
            f"{self.batches} batches, {self.faults.total()} faults, {self.transactions} transactions,"
            f" {self.changes} changes, {self.messages} messages checked, {self.states} states compared,"
            f" {self.refetches.total()} refetches by a rule, {len(self.undemanded)} by none,"
            f" {len(self.violations)} violations"
            + (f" and {self.repeated} repetitions" * bool(self.repeated))
        )

    def report(self) -> str:
        """All figures."""
        lines = [
            self.line(),
            f"transactions {self.transactions} committed, {self.rolled_back} rolled back,"
            f" statements {self.statements}; answers {self.answers}",
            f"longest silence of a client {self.longest_silence_s:.1f} s (outages included),"
            f" longest wait until all were right {self.longest_settle_s:.1f} s",
            f"the published client left streams for long polls {self.left_sse} times",
            "faults by kind:",
            *(f"  {count:6d}  {kind}" for kind, count in sorted(self.faults.items())),
            "refetches by rule:",
            *(f"  {count:6d}  {rule}" for rule, count in self.refetches.most_common()),
            *(f"  {count:6d}  error of a writer: {text}" for text, count in self.errors.most_common(12)),
            *(f"  {count:6d}  violation: {what}" for what, count in self.whats().most_common()),
        ]
        return "\n".join(lines)


class Judge:
    """Collects demands, refetches and violations."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.batch = 0
        self.struck: list[str] = []
        """The faults of the batch that have begun."""
        self.on_violation: Callable[[Violation], object] = lambda _: None
        """Called with each as it is found."""
        self.complete: set[str] = set()
        """Handles of which a client has been up to date."""
        self.removed_by_us: set[str] = set()
        self._demands: list[Demand] = []
        self._refetches: list[Refetch] = []
        self._disturbances: list[float] = []
        self._noted: set[tuple[int, str, str]] = set()

    def begin_batch(self, number: int) -> None:
        """What follows belongs to this batch."""
        self.batch, self.struck = number, []

    def demand(self, rule: str, concerns: Callable[[Shape], bool] = lambda _: True) -> None:
        """From now on a handle that was born before may end."""
        self._demands.append(Demand(time.monotonic(), rule, concerns))

    def demand_tables(self, rule: str, tables: frozenset[str]) -> None:
        """The shapes of some tables, given without schema, may end."""
        names = frozenset(f"public.{table}" for table in tables)
        self.demand(rule, lambda shape: shape.table in names)

    def demand_statement(self, statement: Statement) -> None:
        """What the rules say of a statement that was committed."""
        reach = RULES[statement.kind]
        if reach is Reach.NOBODY:
            return
        names, columns = frozenset(statement.tables), frozenset(statement.columns)
        permission = Permission(time.monotonic(), statement.kind, reach, names, columns)
        self.demand(statement.kind.value, permission.concerns)

    def disturb(self) -> None:
        """A fault has struck: snapshots that are not complete may be lost."""
        self._disturbances.append(time.monotonic())

    def refetch(self, watched: Watched, client: str, handle: str, born: float) -> None:
        """Note a 409."""
        self._refetches.append(Refetch(watched, client, handle, born))

    def violate(self, what: str, client: str, detail: str) -> None:
        """Note a violation; one that the client had in this batch already is only counted."""
        key = (self.batch, what, client)
        if key in self._noted:
            self.totals.repeated += 1
            return
        self._noted.add(key)
        self._note(self.totals.violations, what, client, detail)

    def _note(self, found: list[Violation], what: str, client: str, detail: str) -> None:
        violation = Violation(what, client, detail, self.batch, tuple(self.struck))
        found.append(violation)
        self.on_violation(violation)

    def is_demanded(self, shape: Shape, born: float) -> bool:
        """Whether a handle of the shape may have ended."""
        return any(one.since >= born and one.concerns(shape) for one in self._demands)

    def judge_refetches(self) -> None:
        """Sort the refetches so far by their rules."""
        refetches, self._refetches = self._refetches, []
        for one in refetches:
            rule = self._rule(one)
            if rule is not None:
                self.totals.refetches[rule] += 1
                continue
            detail = f"handle {one.handle or 'none'}, {time.monotonic() - one.born:.1f} s old: {one.watched}"
            self._note(self.totals.undemanded, "a refetch that no rule demands", one.client, detail)
        # The next batch's handles may be as old as these.
        self._demands, self._disturbances = self._demands[-2000:], self._disturbances[-100:]

    def _rule(self, refetch: Refetch) -> str | None:
        if refetch.handle in self.removed_by_us:
            return Kind.CONTROL.value
        for one in reversed(self._demands):
            if one.since >= refetch.born and one.concerns(refetch.watched.shape):
                return one.rule
        ends = refetch.born + (RECORDING_S if refetch.handle in self.complete else math.inf)
        is_disturbed = any(refetch.born <= disturbed <= ends for disturbed in self._disturbances)
        return NOT_COMPLETE if is_disturbed else None
