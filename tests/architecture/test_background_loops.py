"""No background loop ends with an error: each one that runs as a task is kept running."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.source import modules

STARTERS = frozenset({"spawn", "create_task", "ensure_future", "_spawn", "begin"})
KEEPER = "keep_running"
# Endless functions that run as tasks of their own, and who sees to their errors.
SEEN_TO = {
    ("pgshapes.client.shape", "_follow"): "the Python client: its error is raised to the application",
    ("pgshapes.owner.creator", "run"): "the writing of a snapshot, which is no loop",
    ("pgshapes.owner.replicator", "run"): "the stream's, which is another: its end is the session's",
    ("pgshapes.postgres.lock", "_beat_until_lost"): "its end says that the lock is lost",
}


def endless() -> set[str]:
    """Names of the asynchronous functions with a loop that no condition ends."""
    found = set()
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef) and any(_is_endless(each) for each in ast.walk(node)):
                found.add(node.name)
    return found


def _is_endless(node: ast.AST) -> bool:
    """`while True` without a `return` or `break` in it."""
    if not (isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and node.test.value):
        return False
    inner = [each for statement in node.body for each in ast.walk(statement)]
    return not any(isinstance(each, ast.Return | ast.Break) for each in inner)


def started() -> Iterator[tuple[str, str]]:
    """Module and name of each function whose coroutine is made a task where it is called."""
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and _last_name(node.func) in STARTERS:
                for argument in node.args:
                    if isinstance(argument, ast.Call):
                        yield module.name, _last_name(argument.func)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def test_endless_loops_are_kept_running() -> None:
    loops = endless()
    bare = {(module, name) for module, name in started() if name in loops}
    assert bare == set(SEEN_TO), f"start them with {KEEPER}"


def test_the_rule_sees_the_loops() -> None:
    """Loops that are known to be endless, and are known to be started."""
    assert {"run", "empty_trash", "report_periodically", "_stay_connected", KEEPER} <= endless() | {KEEPER}
    assert KEEPER in {name for _, name in started()}


def test_a_loop_that_may_end_is_not_endless() -> None:
    for source, is_endless in {
        "async def f():\n while True:\n  await g()": True,
        "async def f():\n while True:\n  if x:\n   return": False,
        "async def f():\n while x:\n  await g()": False,
    }.items():
        found = [node for node in ast.walk(ast.parse(source)) if _is_endless(node)]
        assert bool(found) == is_endless
