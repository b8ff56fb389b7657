"""The source tree as the architecture tests see it: modules, what they import, how long they are.

Reads the syntax tree only, so imports inside functions and under TYPE_CHECKING count like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PACKAGE = "pgshapes"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    """Dotted; a package's `__init__` has the package's name."""
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def part(self) -> str:
        """The folder or top-level module that it belongs to: `routing`, `config`; the package's own name for
        its root."""
        names = self.name.split(".")
        return names[1] if len(names) > 1 else PACKAGE

    def functions(self) -> Iterator[tuple[str, int]]:
        """Qualified name and length in lines of each function, decorators and docstring included."""
        yield from _functions(self.tree, self.name)

    def imported_names(self) -> Iterator[str]:
        """Everything imported, dotted; `from a import b` gives `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                yield from (f"{origin}.{alias.name}" for alias in node.names)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        above = package[: len(package) - node.level + 1]
        return ".".join([*above, node.module] if node.module else above)


def _functions(node: ast.AST, inside: str) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        name = f"{inside}.{child.name}" if isinstance(child, Function | ast.ClassDef) else inside
        if isinstance(child, Function):
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            yield name, (child.end_lineno or child.lineno) - first + 1
        yield from _functions(child, name)


@cache
def modules() -> dict[str, Module]:
    """Every module of the package by name."""
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path)
    return found


@cache
def imports() -> dict[str, frozenset[str]]:
    """Module → the modules of the package that it imports."""
    return {module.name: frozenset(_imported_modules(module)) for module in modules().values()}


def _imported_modules(module: Module) -> Iterator[str]:
    for name in module.imported_names():
        for candidate in (name, name.rpartition(".")[0]):
            if candidate in modules() and candidate != module.name:
                yield candidate
                break


def part_imports() -> dict[str, set[str]]:
    """Part → the other parts that it imports."""
    result: dict[str, set[str]] = {module.part: set() for module in modules().values()}
    for name, imported in imports().items():
        part = modules()[name].part
        result[part] |= {modules()[other].part for other in imported} - {part}
    return result
