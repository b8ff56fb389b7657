"""The oracle of DDL: random statements of a database's owner, under clients that must never have a wrong row.

`python -m tests.oracle.ddl_oracle --statements 20000 --seed 1` runs against the embedded server. After each
step, a few transactions, every client has the rows that a SELECT finds within 5 s, or was told to fetch them
again and then has them; one that has them later is reported as late. Everything that happened is in a
journal, which `--replay` repeats.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.oracle.ddl.chance import Chance
from tests.oracle.ddl.judge import Totals
from tests.oracle.ddl.shapes import Shape
from tests.oracle.ddl.statements import Kind, Statement
from tests.oracle.ddl.world import DEADLINE_S, World, running_world
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.postgres.installations import postgres_of

FREQUENT = "tests.support.servers.frequent_checks_server"
"""A server that reads the system catalogs more often than `serve`, so that a run is short."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    seed: int
    statements: int
    version: int = 16
    is_alone: bool = False
    """One statement in each step."""
    without: frozenset[Kind] = frozenset()
    """Kinds of statements to leave out."""
    ends_with_a_violation: bool = False


def run_random(world: World, plan: Plan, *, is_told: bool = False) -> Totals:
    """Run steps until that many statements other than DML have run."""
    chance, totals = Chance(world, plan.seed, plan.version, plan.without), world.judge.totals
    chance.begin()
    told, seen = 0, 0
    while totals.ddl < plan.statements and not (plan.ends_with_a_violation and totals.violations):
        chance.step_alone() if plan.is_alone else chance.step()
        for violation in totals.violations[seen:] if is_told else ():
            print(violation, flush=True)
        seen = len(totals.violations)
        if is_told and totals.ddl >= told + 500:
            told = totals.ddl
            print(
                f"{told} statements, {totals.refetches.total()} refetches by a rule,"
                f" {totals.unruled.total()} by none, {seen} violations, {len(totals.late)} late",
                flush=True,
            )
    return totals


def replay(world: World, journal: Path) -> Totals:
    """Repeat a journal."""
    for line in journal.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        match record["event"]:
            case "run":
                world.run(record["session"], Statement.from_json(record["statement"]))
            case "follow":
                world.follow(Shape.from_json(record["shape"]))
            case "leave":
                world.leave(record["number"])
            case "settle":
                world.settle()
    return world.judge.totals


def main() -> int:
    """Run with the arguments of the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--statements", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", type=int, default=16, help="version, 14 to 18")
    parser.add_argument(
        "--frequent", action="store_true", help="read the system catalogs more often than `serve`"
    )
    parser.add_argument("--alone", action="store_true", help="one statement in each step")
    parser.add_argument("--workers", type=int, default=0, help="HTTP processes")
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, help="seconds")
    parser.add_argument("--replay", type=Path, help="a journal to repeat")
    parser.add_argument("--without", nargs="*", default=[], help="kinds of statements, such as INHERIT")
    chosen = parser.parse_args()
    without = frozenset(Kind[name] for name in chosen.without)
    plan = Plan(chosen.seed, chosen.statements, chosen.postgres, chosen.alone, without)
    folder = Path(tempfile.mkdtemp(prefix="ddl-oracle-"))
    journal = folder / f"journal-{chosen.seed}.jsonl"
    print(f"seed {chosen.seed}, journal {journal}", flush=True)
    started = time.monotonic()
    module = FREQUENT if chosen.frequent else "pgshapes.cli"
    with (
        postgres_of(chosen.postgres, SERVER_SETTINGS) as postgres,
        fresh_database(postgres) as url,
        running_world(
            url, journal, module=module, deadline_s=chosen.deadline, workers=chosen.workers
        ) as world,
    ):
        totals = world.judge.totals
        # An interrupt ends the run; what has run until then is told.
        with contextlib.suppress(KeyboardInterrupt):
            if chosen.replay:
                replay(world, chosen.replay)
            else:
                run_random(world, plan, is_told=True)
    print(totals.report())
    print(f"errors of Postgres: {totals.errors.most_common(25)}")
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if totals.failure or totals.unruled_share > 0.02 else 0


if __name__ == "__main__":
    sys.exit(main())
