"""Makes every function on the change path raise in turn, and checks who is affected.

`python -m tests.support.seams.raise_everywhere` prints the functions, which are found by processing a
transaction with the package instrumented, and what happened. Each is made to raise in three ways:

* `once`, MemoryError: at its first call;
* `always`, TypeError: at every call while the transaction is processed, also when it is sent again;
* `one shape`, RecursionError: at every call that is for one certain shape.

Afterwards the errors stop and other transactions follow. Then every shape must have each of its messages, or
have ended; only shapes of the tables of that transaction may have ended, and in the last way only the one
shape; and everything can be acknowledged.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog
from tests.support.seams.instrumented_source import Probe, compile_clause, install

PROBE: Final = Probe()
VICTIM: Final = "a-like"
WAYS: Final[dict[str, type[Exception]]] = {
    "once": MemoryError,
    "always": TypeError,
    "one shape": RecursionError,
}
ATTEMPTS: Final = 3
"""How often the transaction is sent while something raises."""


class Run:
    """One run of the scene, in which `name` raises in one way; without a name nothing does."""

    def __init__(self, scenes: Any, name: str = "", way: str = "once") -> None:
        self._scenes = scenes
        """The module `change_path_scene`, which is imported once the package is instrumented."""
        self.name = name
        self.way = way
        self.raised = 0
        self.attempts = 0
        self.visited: dict[str, bool] = {}
        """The functions that were called, and whether for one shape; of the run in which nothing raises."""
        self.outcome: dict[str, str | None] = {}
        self.problems: list[str] = []
        self.log: list[dict[str, Any]] = []
        self._victim: tuple[object, ...] = ()

    @property
    def ended(self) -> list[str]:
        """The shapes that have ended."""
        return [name for name, text in self.outcome.items() if text is None]

    async def process(self, folder: Path) -> None:
        """Run the scene."""
        scenes = self._scenes
        asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
        scene = scenes.Scene(folder)
        await scene.feed(scenes.FIRST)
        shape = scene.router._shapes[scenes.HANDLES[VICTIM]]
        assert shape.clause is not None
        predicate = shape.clause.compile(shape.relation)
        self._victim = (shape, shape.handle, predicate, scene.store.get(shape.handle))
        structlog.configure(processors=[self._note])
        PROBE.target, PROBE.decide, PROBE.is_special = self.name, self._decide, self._is_for_victim
        error = None
        for self.attempts in range(1, ATTEMPTS + 2):
            PROBE.visited = {} if not self.name else None
            error = await scene.feed(scenes.STRUCK)
            if not self.name:
                self.visited, PROBE.visited = PROBE.visited or {}, None
            if error is None:
                break
            PROBE.target = ""
            scene.reconnect()
            error = await scene.feed(scenes.FIRST)
            if self.attempts < ATTEMPTS and self.way != "once":
                PROBE.target = self.name
        PROBE.target = ""
        error = error or await scene.feed(scenes.LAST)
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

    def _decide(self, frame: FrameType) -> Exception | None:
        if self.way == "once" and self.raised:
            return None
        if self.way == "one shape" and not self._is_for_victim(frame):
            return None
        self.raised += 1
        return WAYS[self.way](f"raised on purpose in {self.name}")

    def _is_for_victim(self, frame: FrameType | None) -> bool:
        """Whether a call is for the one shape. What ends shapes, when it raises, is tried by `always`."""
        is_for_victim = False
        while frame is not None and frame.f_code.co_name != "on_message":
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
        scenes = self._scenes
        for name, text in self.outcome.items():
            if text is not None and text != clean.outcome[name]:
                self.problems.append(f"shape {name} has other messages")
            is_affected = (
                scenes.SHAPES[name][0].oid in scenes.STRUCK_TABLES
                if self.way != "one shape"
                else name == VICTIM
            )
            if text is None and clean.outcome[name] is not None and not is_affected:
                self.problems.append(f"shape {name} has ended")
            if text is not None and clean.outcome[name] is None:
                self.problems.append(f"shape {name} has not ended")
        if self.way == "one shape":
            self._judge_log()

    def _judge_log(self) -> None:
        if self.attempts > 1:
            self.problems.append("an error for one shape was taken for one that concerns all")
        failures = [event for event in self.log if event["event"].startswith("shapes ended")]
        has_ended = self.outcome[VICTIM] is None
        if has_ended and not (len(failures) == 1 and "exc_info" in failures[0] and failures[0]["where"]):
            self.problems.append(f"logged {len(failures)} times")


def _is_only(value: object, shape: object) -> bool:
    """Whether it is the group of the index that has this shape alone."""
    return type(value).__name__ == "Group" and getattr(value, "shapes", ()) == {shape}


async def run_all(scenes: Any) -> tuple[list[str], list[Run]]:
    """The functions, and all runs."""
    clean, runs = Run(scenes), list[Run]()
    with tempfile.TemporaryDirectory() as folder:
        await clean.process(Path(folder) / "clean")
        assert not clean.problems, clean.problems
        found = clean.visited
        for number, (name, is_for_one) in enumerate(found.items()):
            for way in WAYS:
                if way == "one shape" and not is_for_one:
                    continue
                run = Run(scenes, name, way)
                await run.process(Path(folder) / f"{number}-{way[0]}-{way[-1]}")
                run.judge(clean)
                runs.append(run)
    return list(found), runs


def report(functions: list[str], runs: list[Run]) -> str:
    """What happened, a line for each function."""
    lines = [f"{len(functions)} functions, {len(runs)} runs, {sum(run.raised for run in runs)} errors raised"]
    for name in functions:
        told = [_told(run) for run in runs if run.name == name]
        lines.append(f"{name}: " + "; ".join(told))
    kinds = Counter(_told(run).split(" (")[0] for run in runs)
    return "\n".join([*lines, *(f"{count:5d}  {kind}" for kind, count in sorted(kinds.items()))])


def _told(run: Run) -> str:
    if not run.raised:
        return f"{run.way}: not called"
    ended = [name for name in run.ended if not name.startswith("c-")]
    how = "sent again" if run.attempts > 1 else "isolated"
    return f"{run.way}: {how}" + (f" ({len(ended)} ended)" if ended else "")


def main() -> int:
    """Print the report; 1 if something is not as it must be."""
    install(PROBE)
    scenes = importlib.import_module("tests.support.seams.change_path_scene")
    compiled: Any = importlib.import_module("pgshapes.where.codegen.compiled")
    compiled.compile = compile_clause  # in front of the builtin
    scenes.use_small_fragments()
    functions, runs = asyncio.run(run_all(scenes))
    print(report(functions, runs))
    wrong = [run for run in runs if run.problems]
    for run in wrong:
        print(f"WRONG {run.name}, {run.way}: {run.problems}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
