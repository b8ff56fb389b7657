"""A database, a server on it, followers, and the sessions that change the database.

Everything that happens goes through `run`, `follow`, `leave` and `settle`, is written to the journal, and can
be repeated from it. State: this object owns sessions, followers and the catalog as of the last commit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import httpx
import psycopg
from tests.oracle.ddl.catalog import SCHEMAS, Catalog, read_catalog
from tests.oracle.ddl.follower import Births, Follower, Standing
from tests.oracle.ddl.judge import Judge, Timeline
from tests.oracle.ddl.rules import (
    RULES,
    Permission,
    Reach,
    changed_keys,
    filled_columns,
    full_names,
    is_narrowed,
    may_be_refused,
    newly_virtual,
)
from tests.oracle.ddl.session import Effect, Session
from tests.oracle.ddl.shapes import VALUE_SETTINGS, Expected, Shape, expected_rows
from tests.oracle.ddl.statements import Kind, Statement
from tests.support.servers.servers import Server, running_server

SESSIONS = 2
DEADLINE_S = 5.0
"""By then a follower has the rows that Postgres has, or was told to fetch them again; later is late."""
PATIENCE_S = 60.0
"""A follower that is not right by then, while nothing else happens, is wrong and not late."""
_POLL_S = 0.005
_CATALOG_POLL_S = 0.3


class _Settled(NamedTuple):
    """The followers that were not right at the deadline, each with what was wrong."""

    wrong: list[tuple[Follower, str]]
    """And are not right now."""
    late: dict[Follower, tuple[str, float]]
    """And are right now; for how many seconds they were not."""


class World:
    """See the module; made by `running_world`."""

    def __init__(
        self, url: str, server: Server, journal: TextIO, deadline_s: float, schemas: tuple[str, ...]
    ) -> None:
        self.server = server
        self.judge = Judge()
        self.followers: list[Follower] = []
        self.reader = psycopg.connect(url, autocommit=True)
        self.reader.execute(VALUE_SETTINGS)
        self.sessions = [Session(url, server.publication, schemas) for _ in range(SESSIONS)]
        self._schemas = schemas
        self.catalog = self._read()
        self.last_error: psycopg.Error | None = None
        self._journal = journal
        self._deadline_s = deadline_s
        self._births = Births()
        self._timelines: dict[Follower, Timeline] = {}
        self._expected: dict[Shape, Expected] = {}
        self._begun_again: set[Follower] = set()
        self._own_doing: set[int] = set()
        self._had_equal_rows: set[Shape] = set()
        """Shapes without a key in whose log two rows have one name."""
        self._had_publication = True

    def close(self) -> None:
        """End followers and sessions."""
        for follower in self.followers:
            follower.stop()
        self.server.kill()
        for follower in self.followers:
            follower.join()
        for session in self.sessions:
            session.close()
        self.reader.close()

    def run(self, number: int, statement: Statement) -> bool:
        """Run a statement in a session; False if Postgres refuses it."""
        self._write("run", session=number, statement=statement.as_json())
        session = self.sessions[number]
        error = self.last_error = session.run(statement, self.catalog)
        totals = self.judge.totals
        if error is None:
            totals.ran[statement.kind] += 1
        else:
            totals.failed[statement.kind] += 1
            self._note_error(session, statement, error)
        if session.is_idle:
            self._committed(session.take_effects())
        return error is None

    def follow(self, shape: Shape) -> Follower:
        """A new client."""
        self._write("follow", shape=shape.as_json())
        follower = Follower(self.server.url, shape, self._births, self.judge.totals.shapes)
        if shape not in self._expected:
            self._expect_rows(shape)
        timeline = Timeline()
        timeline.append(self._expected[shape])
        self._timelines[follower] = timeline
        self.followers.append(follower)
        self.judge.totals.shapes += 1
        follower.start()
        return follower

    def leave(self, number: int) -> None:
        """A client goes, if it is still there; its shape is deleted if no other follows it."""
        self._write("leave", number=number)
        for follower in [one for one in self.followers if one.number == number]:
            self._remove(follower)

    def _remove(self, follower: Follower) -> None:
        self.followers.remove(follower)
        follower.stop()
        del self._timelines[follower]
        if all(one.shape != follower.shape for one in self.followers):
            self._expected.pop(follower.shape, None)
            self._had_equal_rows.discard(follower.shape)
            self._delete(follower)

    def settle(self) -> None:
        """Wait until every follower is right, then judge what they received."""
        self._write("settle")
        started = time.monotonic()
        settled = self._wait()
        took = time.monotonic() - started
        totals = self.judge.totals
        totals.settles += 1
        totals.settling_s += took
        totals.longest_settle_s = max(totals.longest_settle_s, took)
        for follower, timeline in self._timelines.items():
            if follower.shape in self._had_equal_rows:
                follower.take_record()
                continue
            born = self._births.note(follower.handle, started) if follower.handle else started
            self.judge.take(follower.shape, timeline, follower.take_record(), born)
        for follower, (problem, late_s) in settled.late.items():
            self.judge.be_late(problem, follower.shape, late_s)
        for follower, problem in settled.wrong:
            self.judge.violate(problem, follower.shape, self._described(follower))
            self._begin_again(follower)
        self.judge.end_step()

    def _begin_again(self, follower: Follower) -> None:
        """As a new client of a new shape; a follower for which that did not help leaves."""
        if follower in self._begun_again:
            self._remove(follower)
            return
        self._begun_again.add(follower)
        self._delete(follower)
        follower.restart()

    def problem(self, follower: Follower) -> str | None:
        """What is wrong with the follower now; None if nothing is."""
        expected = self._expected[follower.shape]
        if follower.shape in self._had_equal_rows:
            return None
        if follower.standing is Standing.REFUSED:
            if expected.rows is None or may_be_refused(follower.shape, self.catalog):
                return None
            return "refused without a reason"
        if expected.rows is None:
            return "not refused"
        if follower.standing is Standing.UNAVAILABLE:
            return None if is_narrowed(follower.shape, self.catalog) else "unavailable"
        return None if follower.rows == expected.rows else "rows differ"

    def _wait(self) -> _Settled:
        """Wait until nobody is wrong, at most for `PATIENCE_S`, or the deadline if that is longer."""
        since = time.monotonic()
        next_read = since + _CATALOG_POLL_S
        late: dict[Follower, tuple[str, float]] = {}
        while True:
            if self._start_again():
                since = time.monotonic()
            now = time.monotonic()
            if now >= next_read:
                self.catalog = self._read()
                next_read = now + _CATALOG_POLL_S
            wrong = [(one, problem) for one in self.followers if (problem := self.problem(one))]
            if now - since > self._deadline_s:
                late.update((one, (problem, now - since)) for one, problem in wrong)
            if not wrong or now - since > max(PATIENCE_S, self._deadline_s):
                for follower, _ in wrong:
                    late.pop(follower, None)
                return _Settled(wrong, late)
            time.sleep(_POLL_S)

    def _start_again(self) -> bool:
        """Start a server that has ended, as a service manager does; True if it had.

        Without its publication the stream has a gap, and a server in one process ends.
        """
        if self.server.process is None or self.server.process.poll() is None:
            return False
        if self._had_publication:
            self.judge.violate("the server has ended", None, self.server.log_end())
        self._had_publication = True
        self.server.start()
        return True

    def _committed(self, effects: list[Effect]) -> None:
        since, before = time.monotonic(), self.catalog
        if any(effect.statement.kind is not Kind.DML for effect in effects):
            self.catalog = self._read()
        self.judge.totals.transactions += 1
        self.judge.step.extend(effect.statement for effect in effects)
        self.judge.permit(_permissions(effects, before, self.catalog, since))
        self.judge.permit_again(min((effect.began for effect in effects), default=since), since)
        self._expect()
        self._own_doing |= _without_identity(effects, self.catalog)
        for effect in effects:
            self._had_publication &= effect.statement.kind is not Kind.DROP_PUBLICATION

    def look(self) -> None:
        """Take what others have committed as what followers should have."""
        self.catalog = self._read()
        self._expect()

    def _expect(self) -> None:
        for shape in self._expected:
            self._expect_rows(shape)
        for follower, timeline in self._timelines.items():
            timeline.append(self._expected[follower.shape])

    def _expect_rows(self, shape: Shape) -> None:
        self._expected[shape] = expected_rows(self.reader, shape, self.catalog)
        if self._expected[shape].has_equal_rows:
            self._had_equal_rows.add(shape)

    def _note_error(self, session: Session, statement: Statement, error: psycopg.Error) -> None:
        text = str(error).partition("\n")[0]
        self.judge.totals.errors[f"{statement.kind.value}: {text}"] += 1
        is_broken = "replica identity" in text or "tuple concurrently" in text
        if statement.kind is not Kind.IDENTITY and is_broken and not self._is_own_doing(session, statement):
            self.judge.violate("a statement of the owner fails", None, f"{text}: {statement.sql}")

    def _is_own_doing(self, session: Session, statement: Statement) -> bool:
        """Whether the owner has left the statement's table without an identity, perhaps in the session's open
        transaction.
        """
        seen = session.before
        table = seen.named(statement.tables[0]) if statement.tables else None
        family = seen.family(table.oid) if table else set()
        own_doing = self._own_doing | _without_identity(session.open_effects, seen)
        return not own_doing.isdisjoint(family)

    def _described(self, follower: Follower) -> str:
        expected = self._expected[follower.shape]
        text = f"{follower.standing.value} {follower.answer[:200]} handle {follower.handle};"
        if expected.rows is None:
            return f"{text} expected: {expected.reason}"
        if follower.rows is None:
            return f"{text} expected {len(expected.rows)} rows"
        missing, extra = expected.rows - follower.rows, follower.rows - expected.rows
        return f"{text} missing {list(missing)[:3]}, too many {list(extra)[:3]}"

    def _delete(self, follower: Follower) -> None:
        if follower.handle is not None:
            self.judge.deleted.add(follower.handle)
            params = follower.shape.params | {"handle": follower.handle}
            try:
                httpx.delete(f"{self.server.url}/v1/shape", params=params, timeout=10)
            except httpx.TransportError:
                """The server has ended, which `settle` notices."""

    def _read(self) -> Catalog:
        return read_catalog(self.reader, self.server.publication, self._schemas)

    def _write(self, event: str, **what: Any) -> None:
        self._journal.write(json.dumps({"event": event, **what}) + "\n")
        self._journal.flush()


_OWN_DOING = (Kind.IDENTITY, Kind.PUBLICATION_JOIN, Kind.PUBLICATION_LEAVE, Kind.PUBLICATION_NARROW)
"""After these a failing UPDATE or DELETE can be the owner's own doing."""


def _without_identity(effects: Iterable[Effect], after: Catalog) -> set[int]:
    """The tables of which UPDATE and DELETE may fail because of these effects; `after` is after them."""
    causes = [effect for effect in effects if effect.statement.kind in _OWN_DOING]
    members = after.publication.members if causes and after.publication else ()
    lost = [oid for oid in members if oid in after.tables and after.tables[oid].identity != "f"]
    named = (effect.oids for effect in causes if effect.statement.kind is not Kind.PUBLICATION_LEAVE)
    return set().union(*named, *map(after.family, lost))


def _permissions(
    effects: list[Effect], before: Catalog, after: Catalog, since: float
) -> Iterator[Permission]:
    for effect in effects:
        reach = RULES[effect.statement.kind]
        if reach is not Reach.NOBODY:
            names = full_names(effect.oids, effect.catalog, before, after) | set(effect.statement.tables)
            columns = frozenset(effect.statement.columns)
            yield Permission(since, effect.statement.kind, reach, names, columns)
    if keys := changed_keys(before, after):
        yield Permission(since, Kind.MOVE_KEY, Reach.TABLE, full_names(keys, before, after))
    if virtual := newly_virtual(before, after):
        yield Permission(since, Kind.ADD_COLUMN, Reach.TABLE, full_names(virtual, before, after))
    for oid, filled in filled_columns(before, after).items():
        names = full_names([oid], before, after)
        yield Permission(since, Kind.ADD_COLUMN, Reach.COLUMNS, names, frozenset(filled))


@contextmanager
def running_world(
    url: str,
    journal: Path,
    *,
    module: str,
    deadline_s: float = DEADLINE_S,
    schemas: tuple[str, ...] = SCHEMAS,
    **settings: Any,
) -> Iterator[World]:
    """A world with empty schemas on a fresh database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for schema in SCHEMAS:
            connection.execute(f"CREATE SCHEMA {schema}")
    with (
        journal.open("w", encoding="utf-8") as file,
        running_server(
            url,
            storage_dir=journal.with_suffix(".storage"),
            module=module,
            allow_delete=True,
            long_poll_timeout_ms=2000,
            **settings,
        ) as server,
    ):
        world = World(url, server, file, deadline_s, schemas)
        try:
            yield world
        finally:
            world.close()
