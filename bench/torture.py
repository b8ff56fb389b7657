"""Faults under load: does a client miss, double or reorder anything, is any stuck, does any refetch in vain?

    python -m bench.torture --minutes 60 --seed 1 --workers 2
    python -m bench.torture --only process power        kinds or groups of faults
    python -m bench.torture --replay JOURNAL            the faults of an earlier run, with its options
    python -m bench.torture --shrink JOURNAL            the shortest list of faults that still fails
    python -m bench.torture --kinds                     the kinds of faults and their groups

The same seed gives the same faults and the same statements; when each meets the other is up to the machine.
Server, clients, writers and Postgres share the machine. What a violation means is in docs/torture.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench.proc import conditions
from tests.support.torture.faults import FORMS, weights
from tests.support.torture.judge import Totals
from tests.support.torture.plan import Batch, Draws, read_journal
from tests.support.torture.run import Options, Run, running, torture_postgres
from tests.support.torture.shrink import shrunk
from tests.support.torture.world import HopelessError

from pgshapes.embedded.server import EmbeddedPostgres

PROGRESS_S = 30.0


class Journal:
    """Everything that is needed to repeat a run, one line of JSON for each event."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.path = folder / "journal.jsonl"
        self._file = self.path.open("w", encoding="utf-8")
        self.write("run", options=asdict(options))

    def write(self, event: str, **what: object) -> None:
        """Add an event."""
        self._file.write(json.dumps({"event": event, **what}, default=str) + "\n")
        self._file.flush()


def new_folder() -> Path:
    """Where a run leaves its journal and the log of its server."""
    return Path(tempfile.mkdtemp(prefix="torture-"))


async def run_batches(run: Run, batches: Iterable[Batch], journal: Journal, *, ends_early: bool) -> None:
    """Run batches, and tell what goes wrong at once."""
    totals = run.world.judge.totals
    told = 0
    for batch in batches:
        journal.write("batch", **batch.as_json())
        try:
            await run.batch(batch)
        except HopelessError as error:
            print(f"the run ends: {error}", flush=True)
            return
        finally:
            found = [*totals.violations, *totals.undemanded]
            for violation in found[told:]:
                print(f"{violation}\n    faults: {', '.join(map(str, batch.faults))}", flush=True)
                journal.write("violation", **asdict(violation))
            told = len(found)
        if ends_early and totals.has_failed:
            return


def drawn(draws: Draws, minutes: float) -> Iterable[Batch]:
    """Batches until the time is over."""
    deadline, number = time.monotonic() + minutes * 60, 1
    while time.monotonic() < deadline:
        yield draws.batch(number)
        number += 1


async def tell_progress(totals: Totals) -> None:
    """A line every 30 s."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_S)
        print(f"{time.monotonic() - began:5.0f} s: {totals.line()}", flush=True)


async def torture(
    postgres: EmbeddedPostgres,
    batches: Iterable[Batch],
    options: Options,
    *,
    ends_early: bool = False,
    is_told: bool = True,
) -> Totals:
    """Run batches in a new world; all that was started has ended when it returns."""
    folder = new_folder()
    journal = Journal(folder, options)
    print(f"journal {journal.path}, log {folder / 'storage.log'}", flush=True)
    async with running(postgres, folder, options) as run:
        totals = run.world.judge.totals
        telling = asyncio.create_task(tell_progress(totals)) if is_told else None
        try:
            await run_batches(run, batches, journal, ends_early=ends_early)
        except asyncio.CancelledError:
            print("interrupted", flush=True)
        finally:
            if telling is not None:
                telling.cancel()
    return totals


async def shrink(postgres: EmbeddedPostgres, batches: Sequence[Batch], options: Options, tries: int) -> None:
    """Print the shortest list of faults found that still fails; a run that passes is repeated."""

    async def fails(chosen: Sequence[Batch]) -> bool:
        for _ in range(tries):
            totals = await torture(postgres, chosen, options, ends_early=True, is_told=False)
            if totals.has_failed:
                return True
        return False

    kept = await shrunk(batches, fails)
    if kept is None:
        print("it does not fail again")
        return
    print("still fails with:")
    for batch in kept:
        print(f"  batch {batch.number}: {', '.join(map(str, batch.faults)) or 'no fault'}")
    folder = new_folder()
    journal = Journal(folder, options)
    for batch in kept:
        journal.write("batch", **batch.as_json())
    print(f"python -m bench.torture --replay {journal.path}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="HTTP processes; 0: one process for all")
    parser.add_argument("--postgres", type=int, default=16, help="version, 14 to 18")
    parser.add_argument("--fault-every", type=float, default=5, metavar="S")
    parser.add_argument("--faults", type=int, default=3, help="in each batch")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--pause-ms", type=float, default=80, help="between transactions of a writer")
    parser.add_argument("--stuck", type=float, default=30, metavar="S", help="when a client is stuck")
    parser.add_argument("--only", nargs="*", default=[], help="kinds or groups of faults")
    parser.add_argument("--without", nargs="*", default=[], help="kinds or groups of faults")
    parser.add_argument("--first", action="store_true", help="end with the first violation")
    parser.add_argument("--replay", type=Path, metavar="JOURNAL")
    parser.add_argument("--shrink", type=Path, metavar="JOURNAL")
    parser.add_argument("--batches", type=int, nargs="*", help="of a journal: these only")
    parser.add_argument("--tries", type=int, default=2, help="runs that must pass before a fault is kept")
    parser.add_argument("--kinds", action="store_true", help="print the kinds of faults and end")
    return parser.parse_args()


def read_batches(chosen: argparse.Namespace, path: Path) -> tuple[Options, list[Batch]]:
    """The options and the batches of a journal."""
    record, batches = read_journal(path)
    numbers = chosen.batches
    return Options(**record["options"]), [one for one in batches if not numbers or one.number in numbers]


async def execute(chosen: argparse.Namespace) -> int:
    """What the command line says; returns the exit status."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    options = Options(
        seed=chosen.seed,
        workers=chosen.workers,
        version=chosen.postgres,
        writers=chosen.writers,
        pause_s=chosen.pause_ms / 1000,
        stuck_s=chosen.stuck,
    )
    journal = chosen.shrink or chosen.replay
    batches: Iterable[Batch]
    if journal:
        options, batches = read_batches(chosen, journal)
        options = replace(options, stuck_s=chosen.stuck)
    else:
        kinds = weights(frozenset(chosen.only), frozenset(chosen.without))
        draws = Draws(chosen.seed, kinds, chosen.fault_every, chosen.faults)
        batches = drawn(draws, chosen.minutes)
    print(f"seed {options.seed}, workers {options.workers}, Postgres {options.version}; {conditions()}")
    with torture_postgres(options.version) as postgres:
        if chosen.shrink:
            await shrink(postgres, list(batches), options, chosen.tries)
            return 0
        totals = await torture(postgres, batches, options, ends_early=chosen.first)
    print(totals.report())
    return 1 if totals.has_failed else 0


def main() -> int:
    """Run with the arguments of the command line."""
    chosen = arguments()
    if chosen.kinds:
        for form in sorted(FORMS.values(), key=lambda one: (one.group, one.name)):
            print(f"{form.group:12} {form.name:24} {(form.strike.__doc__ or '').partition(chr(10))[0]}")
        return 0
    return asyncio.run(execute(chosen))


if __name__ == "__main__":
    sys.exit(main())
