"""A task is begun together with what happens at its end, in one module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from tests.architecture.layers import ASIDE
from tests.architecture.source import Module, modules

STARTS: Final = frozenset({"create_task", "ensure_future", "TaskGroup", "shield"})

ALLOWED: Final = {
    "pgshapes.waiting.background": "it is the one module that makes tasks",
    "pgshapes.waiting.poll_wait": "it waits for awaitables of any kind, and holds nothing for them",
    "pgshapes.cli.dev": "its tasks end with the program",
}


def test_tasks_are_begun_in_one_module() -> None:
    found = {module.name for module in modules().values() if module.part not in ASIDE and any(starts(module))}
    assert found == ALLOWED.keys()


def starts(module: Module) -> Iterator[str]:
    """The names in a module that start a task without an end."""
    for node in ast.walk(module.tree):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in STARTS:
            yield name
