"""Clauses that take as long as a test wants, by a clock of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgshapes.model.change import Row
from pgshapes.routing import clause_groups
from pgshapes.routing.clause_groups import Group
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.metering import Meter
from pgshapes.routing.router import Router
from pgshapes.where.clause import Predicate

CostOf = Callable[[str, Row], float]
"""How long a clause takes for a row, in seconds."""


class ExpensiveClauses:
    """A clock that only evaluations advance. `pauses` has the times at which steps began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost_of: CostOf) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.evaluations: list[tuple[str, Row]] = []
        self.cost_of = cost_of
        clauses = self

        class TimedGroup(Group):
            """A group whose clause advances the clock."""

            __slots__ = ()

            def __init__(self, predicate: Predicate) -> None:
                super().__init__(predicate)
                matches = predicate.matches

                def timed(row: Row) -> bool:
                    clauses.evaluations.append((predicate.sql, row))
                    clauses.now += clauses.cost_of(predicate.sql, row)
                    return matches(row)

                self.matches = timed

        monkeypatch.setattr(clause_groups, "Group", TimedGroup)

    def router(self) -> Router:
        """A router whose meter has this clock."""
        return Router(DeliveredTransactions(), meter=StepMeter(self))


class StepMeter(Meter):
    """A meter that notes when steps begin."""

    def __init__(self, clauses: ExpensiveClauses) -> None:
        super().__init__(lambda: clauses.now, lambda: clauses.now)
        self._clauses = clauses

    def begin_step(self) -> None:
        self._clauses.pauses.append(self._clauses.now)
        super().begin_step()
