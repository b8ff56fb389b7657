"""Draws what happens in a world: transactions, new followers, and who leaves.

Steps follow one another; a step ends when every follower is right. Which followers there are has random
numbers of its own, so that the statements of a seed depend on followers as little as possible.
"""

from __future__ import annotations

import random

from tests.oracle.ddl.dml import draw_dml
from tests.oracle.ddl.follower import Follower, Standing
from tests.oracle.ddl.forms import Draw
from tests.oracle.ddl.forms_others import publication_operations
from tests.oracle.ddl.grammar import draw_ddl
from tests.oracle.ddl.shape_draw import draw_shape
from tests.oracle.ddl.statements import OUTSIDE_TRANSACTIONS, Kind, Statement, control
from tests.oracle.ddl.world import World

FOLLOWERS = 14
LONGEST_REFUSAL = 4
"""Steps after which a refused follower leaves."""
MOST_ROWS = 40

BEGIN, COMMIT, ROLLBACK = control("BEGIN"), control("COMMIT"), control("ROLLBACK")
SAVEPOINT, ROLLBACK_TO = control("SAVEPOINT s"), control("ROLLBACK TO s")


class Chance:
    """The random driver of a world."""

    def __init__(self, world: World, seed: int, version: int, without: frozenset[Kind] = frozenset()) -> None:
        self._world = world
        self._pick = random.Random(seed)
        self._shapes = random.Random(f"shapes of {seed}")
        self._draw = Draw(self._pick, world.catalog, version, world.server.publication, without=without)
        self._refused: dict[Follower, int] = {}

    def begin(self) -> None:
        """Some tables to begin with."""
        while len(self._world.catalog.tables) < 5:
            self._run(self._ddl())
            for _ in range(2):
                self._dml_transaction(0)

    def step(self) -> None:
        """A few transactions, perhaps beside an open one, then everybody must be right."""
        self._restore_publication()
        is_beside_another = self._pick.random() < 0.2 and self._open_transaction()
        for _ in range(self._pick.randint(2, 4)):
            self._transaction()
            if self._shapes.random() < 0.25:
                self._follow()
        if is_beside_another:
            self._world.run(1, ROLLBACK if self._world.sessions[1].has_failed else COMMIT)
        self._let_go()
        while len(self._world.followers) < FOLLOWERS and self._follow():
            pass
        self._world.settle()

    def step_alone(self) -> None:
        """One statement and nothing else, so that what goes wrong is due to it; then changes of rows."""
        self._restore_publication()
        self._run(self._ddl())
        if self._shapes.random() < 0.3:
            self._follow()
        self._let_go()
        while len(self._world.followers) < FOLLOWERS and self._follow():
            pass
        self._world.settle()
        for _ in range(2):
            self._dml_transaction(0)

    # --- statements

    def _restore_publication(self) -> None:
        """Mostly at once: nothing can be followed before."""
        publication = self._world.catalog.publication
        if publication and not publication.publishes_all and self._pick.random() < 0.6:
            self._look()
            self._run(publication_operations(self._draw))

    def _transaction(self) -> None:
        how = self._pick.random()
        if how < 0.3:
            self._dml_transaction(0)
        elif how < 0.6:
            self._run(self._ddl())
        else:
            self._mixed_transaction()

    def _mixed_transaction(self) -> None:
        self._run(BEGIN)
        for _ in range(self._pick.randint(2, 4)):
            is_undone = self._pick.random() < 0.12
            if is_undone:
                self._run(SAVEPOINT)
            done = self._run(self._dml() if self._pick.random() < 0.4 else self._ddl(is_inside=True))
            if is_undone:
                self._run(ROLLBACK_TO)
            elif not done:
                break
        has_failed = self._world.sessions[0].has_failed
        self._run(ROLLBACK if has_failed or self._pick.random() < 0.1 else COMMIT)

    def _dml_transaction(self, session: int) -> None:
        self._world.run(session, BEGIN)
        self._changes(session)
        has_failed = self._world.sessions[session].has_failed
        self._world.run(session, ROLLBACK if has_failed or self._pick.random() < 0.05 else COMMIT)

    def _open_transaction(self) -> bool:
        self._world.run(1, BEGIN)
        self._changes(1)
        return True

    def _changes(self, session: int) -> None:
        for _ in range(self._pick.randint(1, 5)):
            statement = self._dml(session)
            if statement is not None and not self._world.run(session, statement):
                return

    def _run(self, statement: Statement | None) -> bool:
        return statement is not None and self._world.run(0, statement)

    def _ddl(self, *, is_inside: bool = False) -> Statement:
        self._look()
        while True:
            statement = draw_ddl(self._draw)
            if not is_inside or statement.kind not in OUTSIDE_TRANSACTIONS:
                return statement

    def _dml(self, session: int = 0) -> Statement | None:
        self._look(session)
        return draw_dml(self._draw)

    def _look(self, number: int = 0) -> None:
        session = self._world.sessions[number]
        can_look = not session.is_idle and not session.has_failed
        self._draw.catalog = session.catalog() if can_look else self._world.catalog

    # --- followers

    def _follow(self) -> bool:
        tables = list(self._world.catalog.tables.values())
        if not tables:
            return False
        known = [one.shape.table for one in self._world.followers]
        tables.sort(key=lambda one: known.count(one.full_name) + self._shapes.random() * 2 + one.is_partition)
        self._world.follow(draw_shape(self._shapes, tables[0], self._world.catalog))
        return True

    def _let_go(self) -> None:
        for follower in tuple(self._world.followers):
            is_refused = follower.standing is Standing.REFUSED
            self._refused[follower] = self._refused.get(follower, 0) + 1 if is_refused else 0
            if self._refused[follower] > LONGEST_REFUSAL or self._shapes.random() < 0.02:
                del self._refused[follower]
                self._world.leave(follower.number)
