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
from tests.support.torture.judge import Totals, Violation
from tests.support.torture.plan import Batch, Draws, Record, read_journal
from tests.support.torture.run import STUCK_S, Options, Run, running, torture_postgres
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
    """Run batches; the first violation ends the one in which it is found, if wanted."""
    found = asyncio.Event()

    tell = run.world.judge.on_violation

    def note(violation: Violation) -> None:
        found.set()
        journal.write("violation", **asdict(violation))
        tell(violation)

    run.world.judge.on_violation = note
    for batch in batches:
        journal.write("batch", **batch.as_json())
        running = asyncio.create_task(run.batch(batch))
        ends = [running, *([asyncio.create_task(found.wait())] if ends_early else [])]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        if not running.cancelled():
            running.result()
        if ends_early and found.is_set():
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
    journal: Journal,
    *,
    ends_early: bool = False,
    is_told: bool = True,
) -> Totals:
    """Run batches in a new world; all that was started has ended when it returns. It tells what goes wrong,
    at once, and how to go on.
    """
    async with running(postgres, journal.path.parent, options) as run:
        totals = run.world.judge.totals
        telling = asyncio.create_task(tell_progress(totals)) if is_told else None
        if is_told:
            run.world.judge.on_violation = lambda violation: print(violation, flush=True)
        try:
            await run_batches(run, batches, journal, ends_early=ends_early)
        except HopelessError as error:
            print(f"the run ends: {error}", flush=True)
        except asyncio.CancelledError:
            if not is_told:
                raise
            print("interrupted", flush=True)
        finally:
            if telling is not None:
                telling.cancel()
    return totals


class Trials:
    """Runs of chosen batches, each of which passes or fails; a run that passes is repeated."""

    def __init__(
        self, postgres: EmbeddedPostgres, options: Options, wanted: Iterable[str], tries: int
    ) -> None:
        """`wanted` is what must happen for a run to fail; anything, if it is empty."""
        self.runs = 0
        self.shortest: list[Batch] | None = None
        """The last batches that failed, which are the fewest so far."""
        self._postgres = postgres
        self._options = options
        self._wanted = frozenset(wanted)
        self._tries = tries

    async def fails(self, chosen: Sequence[Batch]) -> bool:
        """Whether one of some runs fails as wanted."""
        for _ in range(self._tries):
            if await self._run(chosen):
                self.shortest = list(chosen)
                return True
        return False

    async def _run(self, chosen: Sequence[Batch]) -> bool:
        self.runs += 1
        began, journal = time.monotonic(), Journal(new_folder(), self._options)
        totals = await torture(self._postgres, chosen, self._options, journal, ends_early=True, is_told=False)
        found = set(totals.whats())
        fails = bool(found & self._wanted if self._wanted else found)
        faults = sum(len(one.faults) for one in chosen)
        said = ("fails: " if fails else "fails otherwise: ") + ", ".join(sorted(found)) if found else "passes"
        print(
            f"run {self.runs}, {len(chosen)} batches with {faults} faults, {time.monotonic() - began:.0f} s:"
            f" {said}; {journal.path}",
            flush=True,
        )
        return fails


async def shrink(postgres: EmbeddedPostgres, record: Record, options: Options, tries: int) -> int:
    """Print the shortest list of faults found that still fails; return the exit status, 1 if there is one."""
    batches = record.until_failure()
    faults = sum(len(one.faults) for one in batches)
    print(
        f"looking for: {', '.join(record.violations) or 'any violation'};"
        f" from {len(batches)} batches with {faults} faults; a list passes after {tries} runs"
    )
    trials = Trials(postgres, options, record.violations, tries)
    try:
        kept = await shrunk(batches, trials.fails)
    except asyncio.CancelledError:
        print("interrupted; the shortest list so far is not the shortest there is", flush=True)
        kept = trials.shortest
    if kept is None:
        print(f"it did not fail again in {trials.runs} runs; more --tries may find it")
        return 0
    print(f"still fails after {trials.runs} runs with:")
    for batch in kept:
        print(f"  batch {batch.number}: {', '.join(map(str, batch.faults)) or 'the writers alone'}")
    journal = Journal(new_folder(), options)
    for batch in kept:
        journal.write("batch", **batch.as_json())
    tell_how_to_go_on(journal, None)
    return 1


def tell_how_to_go_on(journal: Journal, failed: int | None) -> None:
    """The commands for a run that failed, in that batch."""
    command, path = "python -m bench.torture", journal.path
    print(f"repeat it:  {command} --first --replay {path}")
    if failed is not None and failed > 1:
        print(f"that batch: {command} --first --replay {path} --batches {failed}")
    if failed is not None:
        print(f"cut down:   {command} --shrink {path}")


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
    parser.add_argument(
        "--stuck",
        type=float,
        metavar="S",
        help=f"when a client is stuck, {STUCK_S:.0f} unless a journal says",
    )
    parser.add_argument("--only", nargs="*", default=[], help="kinds or groups of faults")
    parser.add_argument("--without", nargs="*", default=[], help="kinds or groups of faults")
    parser.add_argument("--first", action="store_true", help="end with the first violation")
    parser.add_argument("--replay", type=Path, metavar="JOURNAL")
    parser.add_argument("--shrink", type=Path, metavar="JOURNAL")
    parser.add_argument("--batches", type=int, nargs="*", help="of a journal: these only")
    parser.add_argument(
        "--tries", type=int, default=2, help="runs that must pass before a list of faults passes"
    )
    parser.add_argument("--kinds", action="store_true", help="print the kinds of faults and end")
    return parser.parse_args()


def options_of(chosen: argparse.Namespace) -> Options:
    """Those of the command line, for a new run."""
    return Options(
        seed=chosen.seed,
        workers=chosen.workers,
        version=chosen.postgres,
        writers=chosen.writers,
        pause_s=chosen.pause_ms / 1000,
        stuck_s=chosen.stuck or STUCK_S,
    )


def read_record(chosen: argparse.Namespace, path: Path) -> tuple[Options, Record]:
    """The journal of an earlier run, and its options; those batches that were chosen."""
    record = read_journal(path)
    options = Options(**record.options)
    if chosen.stuck is not None:
        options = replace(options, stuck_s=chosen.stuck)
    if chosen.batches:
        batches = [one for one in record.batches if one.number in chosen.batches]
        record = replace(record, batches=batches)
    return options, record


async def execute(chosen: argparse.Namespace) -> int:
    """What the command line says; returns the exit status."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    record, options = None, options_of(chosen)
    if journal := chosen.shrink or chosen.replay:
        options, record = read_record(chosen, journal)
        if not record.batches:
            print(f"{journal} has no such batch")
            return 2
    print(f"seed {options.seed}, workers {options.workers}, Postgres {options.version}; {conditions()}")
    with torture_postgres(options.version) as postgres:
        if chosen.shrink and record is not None:
            return await shrink(postgres, record, options, chosen.tries)
        return await run_told(postgres, chosen, options, record)


async def run_told(
    postgres: EmbeddedPostgres, chosen: argparse.Namespace, options: Options, record: Record | None
) -> int:
    """One run, new or repeated; returns the exit status."""
    kinds = weights(frozenset(chosen.only), frozenset(chosen.without))
    draws = Draws(chosen.seed, kinds, chosen.fault_every, chosen.faults)
    batches = record.batches if record else drawn(draws, chosen.minutes)
    journal = Journal(new_folder(), options)
    print(f"journal {journal.path}, log {journal.path.with_name('storage.log')}", flush=True)
    totals = await torture(postgres, batches, options, journal, ends_early=chosen.first)
    print(totals.report())
    if not totals.has_failed:
        return 0
    tell_how_to_go_on(journal, min(one.batch for one in [*totals.violations, *totals.undemanded]))
    return 1


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
