"""Limits the time for which rows are evaluated without a pause, and the time that one clause may take. Pure:
the clocks are given.

Routing goes in steps. When a step is over, a row that is not evaluated by all clauses raises `OutOfTime`; the
change is routed again in the next step, which goes on where this one stopped, because verdicts are kept until
`end_change`. Rows that are small are evaluated by a batch of clauses between two readings of the clock. For
large rows, and when a batch was expensive, each clause is measured by itself, in the processor's time: one
that takes too long for a row, or too much of all time, is over its budget, and so are the shapes that have
it. Looking up the shapes of a large row reads its values, each of them once (`large_values`); the step may
end after each.

State is owned by the router; one meter for all of its relations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from pgshapes.model.change import LARGE_CHARACTERS, Row
from pgshapes.routing.clause_groups import Clauses, Group, Groups, in_batches
from pgshapes.routing.failures import Evaluate
from pgshapes.where.clause import Predicate
from pgshapes.where.types import large_values
from pgshapes.where.types.operation import TooExpensive

STEP_S: Final = 0.03
"""How long routing goes on before other work has its turn."""
ROW_S: Final = 2.0
"""Processor time that a clause may take for one row. Clauses are made for 5 s per megabyte at most (`cost`),
as a bound of the worst case; nearly all take a hundredth of it.
"""
EXPECTED_S: Final = 10.0
"""A row that may take a clause longer than this is not evaluated. Postgres ends the connection after
`wal_sender_timeout` without an answer, 60 s by default, and an evaluation cannot be interrupted.
"""
SHARE: Final = 0.25
"""The share of all time that the large rows of one clause may take, beyond `BURST_S`."""
BURST_S: Final = 20.0

_EXPENSIVE_S: Final = 0.02
"""A batch that takes longer is evaluated again, clause by clause."""


class OutOfTime(BaseException):
    """The step is over. Not an error of a shape or relation, so not an `Exception`."""


@dataclass(slots=True, frozen=True)
class OverBudget:
    """The shapes of a clause that is over its budget, by a row."""

    shapes: frozenset[Any]
    error: TooExpensive
    row: Row


class ReadsValues(Protocol):
    """A look-up by values, as the meter uses it."""

    find: Callable[[Row], Iterable[Any]]

    def reading_s(self, row: Row) -> float:
        """How long it may take to read the values of a row, in seconds."""

    def shapes(self) -> frozenset[Any]:
        """All shapes that are looked up."""


Clock = Callable[[], float]


def _no_clock() -> float:
    return 0.0


class Meter:
    """The present step and the present change. `clock` and `processor_clock` return seconds; without them
    there is no limit.
    """

    def __init__(self, clock: Clock = _no_clock, processor_clock: Clock = _no_clock) -> None:
        self._clock = clock
        self._processor_clock = processor_clock
        self._step_ends = float("inf")
        self._is_suspicious = False
        """Whether a clause of the present change is expensive, so that each one is measured."""
        self._verdicts: dict[tuple[object, Row], dict[str, bool]] = {}
        """By index and row of the present change, the verdicts by clause."""
        self._judged: dict[tuple[object, Row], dict[str, bool | Exception]] = {}
        """Likewise, after a clause has raised: the verdicts, and what was raised, by clause."""
        self.may_be_large = True
        """Whether rows of the present fragment may be large."""
        self.is_late = False
        """Whether the step was found to be over."""
        self.is_used = False
        """Whether the present change has to be ended with `end_change`."""
        self._over_budget: list[OverBudget] = []

    def begin_step(self) -> None:
        """Begin a step now."""
        self._step_ends = self._clock() + STEP_S
        self.is_late = False

    def is_step_over(self) -> bool:
        """Whether the step is over now."""
        self.is_late = self._clock() >= self._step_ends
        return self.is_late

    def end_change(self) -> list[OverBudget]:
        """Forget what was kept for the present change. Returns the shapes that are over their budget."""
        over, self._over_budget = self._over_budget, []
        self._verdicts.clear()
        self._judged.clear()
        self._is_suspicious = self.is_used = False
        return over

    def known(self, index: object, row: Row) -> dict[str, bool]:
        """The verdicts for a row of the present change, by clause, as far as they are kept. Raises what a
        clause raised for it before.
        """
        judged = self._judged.get((index, row), {})
        for verdict in judged.values():
            if isinstance(verdict, Exception):
                raise verdict
        return self._verdicts.get((index, row), {})

    def judged(self, index: object, row: Row) -> dict[str, bool | Exception]:
        """The verdicts of clauses that were evaluated for themselves; those that follow belong into it."""
        self.is_used = True
        known: dict[str, bool | Exception] = {**self._verdicts.get((index, row), {})}
        return self._judged.setdefault((index, row), known)

    def judge(self, predicate: Predicate, row: Row, evaluate: Evaluate) -> bool | Exception:
        """The verdict of one clause, or what it raised: TooExpensive if it takes too long for the row."""
        began = self._processor_clock()
        try:
            _check_expected(predicate.cost.of_row(row), row)
            try:
                verdict = predicate.matches(row)
            except RecursionError:
                verdict = evaluate(predicate.matches, row)
            took_s = self._processor_clock() - began
            if took_s > ROW_S:
                raise _too_slow(took_s, row)
            return verdict
        except Exception as error:
            return error

    def find(self, lookup: ReadsValues, row: Row) -> Iterable[Any]:
        """The buckets of a look-up for a large row. Raises OutOfTime after values were read."""
        self.is_used = True
        try:
            _check_expected(lookup.reading_s(row), row)
        except TooExpensive as error:
            self._over_budget.append(OverBudget(lookup.shapes(), error, row))
            return ()
        made = large_values.made()
        found = lookup.find(row)
        if large_values.made() != made and self.is_step_over():
            raise OutOfTime
        return found

    def matching(self, index: object, clauses: Clauses[Any], row: Row) -> list[set[Any]]:
        """The shapes of the clauses that are TRUE for the row. Raises OutOfTime, and what a clause raises."""
        if self.is_used or (self.may_be_large and is_large(row)):
            return self._go_on(index, clauses.by_sql, row)
        found: list[set[Any]] = []
        done = 0
        for batch in clauses.batches or clauses.make_batches():
            found += [shapes for matches, shapes in batch if matches(row)]
            done += len(batch)
            now = self._clock()
            if now >= self._step_ends:
                self._note_late(now)
                if done < len(clauses.by_sql):
                    self._keep(index, row, _verdicts(clauses.by_sql, found, done))
                    raise OutOfTime
        return found

    def _note_late(self, now: float) -> None:
        """The step is over. Raise OutOfTime if the last clauses took long, so that the change is measured."""
        self.is_late = True
        if now - self._step_ends > _EXPENSIVE_S and not self._is_suspicious:
            self._is_suspicious = self.is_used = True
            raise OutOfTime

    def _go_on(self, index: object, groups: Groups, row: Row) -> list[set[Any]]:
        """As `matching`, from what is known; each verdict becomes known."""
        known = self.known(index, row)
        self._keep(index, row, known)
        pending = [item for item in groups.items() if item[0] not in known]
        is_measured = self._is_suspicious or is_large(row)
        for part in [[item] for item in pending] if is_measured else in_batches(pending):
            if is_measured:
                verdicts = {clause: self._measure(group, row) for clause, group in part}
            else:
                verdicts = {clause: group.matches(row) for clause, group in part}
            now = self._clock()
            if now < self._step_ends:
                known.update(verdicts)
                continue
            if not is_measured:
                self._note_late(now)
            known.update(verdicts)
            self.is_late = True
            if part[-1] is not pending[-1]:
                raise OutOfTime
        return [group.shapes for clause, group in groups.items() if known[clause]]

    def _keep(self, index: object, row: Row, known: dict[str, bool]) -> None:
        self._verdicts[index, row] = known
        self.is_used = True

    def _measure(self, group: Group, row: Row) -> bool:
        """The verdict of one clause, False if it is over its budget."""
        try:
            _check_expected(group.cost.of_row(row), row)
            began = self._processor_clock()
            verdict = group.matches(row)
            took_s = self._processor_clock() - began
            if took_s > ROW_S or self._spent(group, took_s) > BURST_S:
                self._check_again(group, row, took_s)
            return verdict
        except TooExpensive as error:
            self._over_budget.append(OverBudget(frozenset(group.shapes), error, row))
            return False

    def _spent(self, group: Group, took_s: float) -> float:
        """The time of a clause beyond its share, this evaluation included."""
        now = self._clock()
        allowed_s = (now - group.spent_at_s) * SHARE
        group.spent_s = max(0.0, group.spent_s - allowed_s) + took_s
        group.spent_at_s = now
        return group.spent_s

    def _check_again(self, group: Group, row: Row, took_s: float) -> None:
        """Evaluate once more: values that other clauses use, too, are made now. Raises TooExpensive."""
        began = self._processor_clock()
        group.matches(row)
        again_s = self._processor_clock() - began
        if again_s > ROW_S:
            raise _too_slow(again_s, row)
        if group.spent_s > BURST_S:
            group.spent_s *= min(1.0, again_s / took_s) if took_s else 0.0
        if group.spent_s > BURST_S:
            raise TooExpensive(
                f"the clause took {SHARE:.0%} of the time, and {again_s:.1f} s for one row of"
                f" {_characters(row):,} characters"
            )


def is_large(row: Row) -> bool:
    """Whether a row takes so long that each clause is measured."""
    return _characters(row) > LARGE_CHARACTERS


def _characters(row: Row) -> int:
    return sum(map(len, filter(None, row)))


def _check_expected(expected_s: float, row: Row) -> None:
    """Raises TooExpensive if something may take too long for the row."""
    if expected_s > EXPECTED_S:
        raise TooExpensive(
            f"the clause may take {expected_s:.0f} s for one row of {_characters(row):,} characters"
        )


def _too_slow(took_s: float, row: Row) -> TooExpensive:
    return TooExpensive(f"the clause took {took_s:.1f} s for one row of {_characters(row):,} characters")


def _verdicts(groups: Groups, found: list[set[Any]], count: int) -> dict[str, bool]:
    """The verdicts of the first `count` clauses, of which those of `found` are TRUE."""
    matched = set(map(id, found))
    return {clause: id(group.shapes) in matched for clause, group in islice(groups.items(), count)}
