"""Makes every function on the change path raise in turn, and checks who is affected.

`python -m tests.support.seams.raise_everywhere` prints the functions, which are found by processing a
transaction with the package instrumented, and what happened. Each is made to raise in three ways:

* `once`, MemoryError: at one of its calls, which is drawn from a seed;
* `always`, TypeError: at every call while the transaction is processed, also when it is sent again;
* `one shape`, RecursionError: at every call that is for one certain shape.

For what is called only after an error, and for some other functions, a second error is raised by it after the
first one.

Afterwards the errors stop and other transactions follow. Then every shape must have each of its messages, or
have ended; only shapes of the tables of that transaction may have ended, and in the last way only the one
shape; and everything can be acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

import structlog
from tests.support.seams.change_path_functions import differences
from tests.support.seams.instrumented_source import Probe, compile_clause, install

PROBE: Final = Probe()
VICTIM: Final = "a-like"
WAYS: Final[dict[str, type[Exception]]] = {
    "once": MemoryError,
    "always": TypeError,
    "one shape": RecursionError,
}
CLAUSES: Final = "<clause>"
_MEMORY: Final = Path("/dev/shm")
ATTEMPTS: Final = 3
"""How often the transaction is sent while something raises."""


class Run:
    """One run of the scene, in which `name` raises in one way, if once, then at its call number `at`; and
    `second` once after that. Without a name nothing does.
    """

    def __init__(
        self, faults: Any, name: str = "", way: str = "once", second: str = "", *, at: int = 1
    ) -> None:
        self._faults = faults
        """The module `change_path_faults`, which is imported once the package is instrumented."""
        self.name = name
        self.way = way
        self.second = second
        self.at = at
        self.calls = 0
        self.raised = 0
        self.has_raised_second = False
        self.attempts = 0
        self.visited: dict[str, bool] = {}
        """The functions that were called, and whether for one shape; of the run in which nothing raises."""
        self.after: set[str] = set()
        """The functions that were called after the first error."""
        self.outcome: dict[str, str | None] = {}
        self.problems: list[str] = []
        self.log: list[dict[str, Any]] = []
        self._victim: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}, {self.way} at {self.at}" + (f", then {self.second}" if self.second else "")

    @property
    def ended(self) -> list[str]:
        """The shapes that have ended and would not have without an error."""
        return [
            name for name, text in self.outcome.items() if text is None and name not in self._faults.ENDED
        ]

    async def process(self, folder: Path) -> None:
        """Run the scene."""
        faults = self._faults
        structlog.configure(processors=[self._note])
        asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
        scene = faults.Scene(folder, faults.ALL)
        await scene.feed(faults.BEFORE)
        shape = scene.router._shapes[scene.handles[VICTIM]]
        assert shape.clause is not None
        predicate = shape.clause.compile(shape.relation)
        self._victim = (shape, shape.handle, predicate, scene.store.get(shape.handle))
        targets = (self.name, self.second)
        PROBE.targets, PROBE.decide, PROBE.is_special = targets, self._decide, self._is_for_victim
        error = None
        for attempt in range(1, ATTEMPTS + 2 + bool(self.second)):
            self.attempts = attempt
            PROBE.visited = {} if not self.name else None
            error = await scene.feed(faults.STRUCK)
            if not self.name:
                self.visited, PROBE.visited = PROBE.visited or {}, None
            if error is None:
                break
            PROBE.targets, PROBE.seen = (), None
            scene.reconnect()
            error = await scene.feed(faults.BEFORE)
            PROBE.seen = self.after
            is_more = attempt < ATTEMPTS and self.way != "once"
            PROBE.targets = targets if is_more else (self.second,)
        PROBE.targets, PROBE.seen = (), None
        error = error or await scene.feed(faults.AFTERWARDS)
        if error is not None:
            self.problems.append(f"the stream does not go on: {error!r}")
        await self._check(scene)
        await scene.close()

    async def _check(self, scene: Any) -> None:
        if not await scene.everything_acknowledged():
            self.problems.append(f"acknowledged up to {scene.boundary.acknowledgeable()} only")
        self.outcome = await scene.outcome()
        if not scene.router._shapes.keys() <= scene.tables.shapes._rows.keys():
            self.problems.append("shapes are routed that do not exist")

    def _decide(self, name: str, frame: FrameType) -> Exception | None:
        if name != self.name or (name == self.second and self.raised):
            return self._decide_second()
        self.calls += 1
        if self.way == "once" and self.calls != self.at:
            return None
        if self.way == "one shape" and not self._is_for_victim(frame):
            return None
        self.raised += 1
        PROBE.seen = self.after
        return WAYS[self.way](f"raised on purpose in {self.name}")

    def _decide_second(self) -> Exception | None:
        if not self.raised or self.has_raised_second:
            return None
        self.has_raised_second = True
        return OverflowError(f"raised on purpose in {self.second}")

    def _is_for_victim(self, frame: FrameType | None) -> bool:
        """Whether a call is for the one shape. What ends shapes, when it raises, is tried by `always`."""
        is_for_victim = False
        while frame is not None and frame.f_code.co_name not in ("on_message", "feed"):
            for value in frame.f_locals.values():
                if any(value is one for one in self._victim) or _is_only(value, self._victim[0]):
                    is_for_victim = True
            if frame.f_code.co_qualname == "LogPublisher._end":
                return False
            frame = frame.f_back
        return is_for_victim

    def _note(self, _: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        self.log.append(dict(event))
        raise structlog.DropEvent

    def judge(self, clean: Run) -> None:
        """Compare with the run in which nothing raised."""
        faults = self._faults
        for name, text in self.outcome.items():
            if text is not None and text not in (
                clean.outcome[name],
                clean.outcome.get(faults.TWINS.get(name)),
            ):
                self.problems.append(f"shape {name} has other messages")
            is_affected = (
                faults.ALL[name].table.oid in faults.STRUCK_TABLES
                if self.way != "one shape" or self.second
                else name == VICTIM
            )
            if text is None and clean.outcome[name] is not None and not is_affected:
                self.problems.append(f"shape {name} has ended")
            if text is not None and clean.outcome[name] is None and name not in faults.TWINS:
                self.problems.append(f"shape {name} has not ended")
        if self.way == "one shape" and not self.second:
            self._judge_log()

    def _judge_log(self) -> None:
        if self.attempts > 1:
            self.problems.append("an error for one shape was taken for one that concerns all")
        handle = self._victim[1]
        failures = [
            event
            for event in self.log
            if event["event"].startswith("shapes ended") and event["handle"] == handle
        ]
        has_ended = self.outcome[VICTIM] is None
        if has_ended and not (len(failures) == 1 and "exc_info" in failures[0] and failures[0]["where"]):
            self.problems.append(f"logged {len(failures)} times")


def _is_only(value: object, shape: object) -> bool:
    """Whether it is the group of the index that has this shape alone."""
    return type(value).__name__ == "Group" and getattr(value, "shapes", ()) == {shape}


class Runs:
    """All runs."""

    def __init__(self, faults: Any, folder: Path) -> None:
        self._faults = faults
        self._folder = folder
        self.clean = Run(faults)
        self.runs: list[Run] = []
        self._chance = Random(1)

    async def run(self, pairs: int, *, is_whole: bool) -> None:
        """Run the scene without errors, with one, and with a second one, `pairs` times more than needed. If
        it is not the whole, each function raises in one of the ways.
        """
        await self.clean.process(self._folder / "clean")
        ended = {name for name, text in self.clean.outcome.items() if text is None}
        assert not self.clean.problems and ended == self._faults.ENDED, (self.clean.problems, ended)
        for name, is_for_one in self.clean.visited.items():
            ways = [way for way in WAYS if way != "one shape" or is_for_one]
            for way in ways if is_whole or name.startswith(CLAUSES) else [self._chance.choice(ways)]:
                await self._run(name, way, self._chance.randint(1, PROBE.calls[name]))
        for run, second in self._pairs(pairs):
            await self._run(run.name, run.way, run.at, second)

    def _pairs(self, count: int) -> Iterable[tuple[Run, str]]:
        """Each function that is called only after an error, after one that leads to it; and some others."""
        chance, runs = self._chance, list(self.runs)
        for second in sorted(self.functions() - self.clean.visited.keys()):
            yield chance.choice([one for one in runs if second in one.after]), second
        for run in chance.sample([one for one in runs if one.after], count):
            yield run, chance.choice(sorted(run.after))

    async def _run(self, name: str, way: str, at: int, second: str = "") -> None:
        run = Run(self._faults, name, way, second, at=at)
        await run.process(self._folder / str(len(self.runs)))
        run.judge(self.clean)
        self.runs.append(run)

    def functions(self) -> set[str]:
        """All functions that were called."""
        return set(self.clean.visited).union(*(run.after for run in self.runs))

    def report(self) -> str:
        """What happened, a line for each function."""
        functions, runs = self.functions(), self.runs
        pairs = [run for run in runs if run.has_raised_second]
        lines = [
            f"{len(functions)} functions, {len(runs)} runs, {sum(run.raised for run in runs)} errors raised,"
            f" {len(pairs)} second ones"
        ]
        for name in self.clean.visited:
            told = [_told(run) for run in runs if run.name == name and not run.second]
            lines.append(f"{name}: " + "; ".join(told))
        lines += [f"{run.second}, after {run.name}: {_told(run)}" for run in pairs]
        kinds = Counter(_told(run).split(" (")[0] for run in runs)
        return "\n".join([*lines, *(f"{count:5d}  {kind}" for kind, count in sorted(kinds.items()))])


def _told(run: Run) -> str:
    if not run.raised:
        return f"{run.way}: not called"
    how = "sent again" if run.attempts > 1 else "isolated"
    return f"{run.way}: {how}" + (f" ({len(run.ended)} ended)" if run.ended else "")


def _folder() -> tempfile.TemporaryDirectory[str]:
    """In memory if there is such a place: most of the time goes into files otherwise."""
    return tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)


def main() -> int:
    """Print the report; 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true", help="each function raises in one of the ways")
    parser.add_argument("--pairs", type=int, default=40, help="further runs with two errors")
    options = parser.parse_args()
    install(PROBE)
    faults = importlib.import_module("tests.support.seams.change_path_faults")
    compiled: Any = importlib.import_module("pgshapes.where.codegen.compiled")
    compiled.compile = compile_clause  # in front of the builtin
    importlib.import_module("tests.support.seams.change_path_scene").use_small_limits()
    with _folder() as folder:
        runs = Runs(faults, Path(folder))
        asyncio.run(runs.run(options.pairs, is_whole=not options.sample))
    print(runs.report())
    wrong = [f"{run}: {run.problems}" for run in runs.runs if run.problems]
    wrong += differences(runs.functions())
    for text in wrong:
        print(f"WRONG {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
