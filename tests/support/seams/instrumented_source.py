"""Loads the package so that each call of one of its functions is announced, and can be made to raise.

`install` must run before the package is imported. Every function, lambda and generated clause begins with a
call of `Probe.enter` then. Nothing else is changed.
"""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import importlib.machinery
import sys
from collections import Counter
from collections.abc import Callable, Collection
from types import FrameType, ModuleType
from typing import Any

PACKAGE = "pgshapes"
_HOOK = "__enter_function__"


class Probe:
    """What is called at the start of each function: notes its name, or raises."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """How often each function was called while `visited` was not None."""
        self.visited: dict[str, bool] | None = None
        """The names of the functions that were called, in order, while this is not None; and whether
        `is_special` was true for one of the calls.
        """
        self.is_special: Callable[[FrameType], bool] = lambda _: False
        self.seen: set[str] | None = None
        """The names alone."""
        self.targets: Collection[str] = ()
        self.decide: Callable[[str, FrameType], Exception | None] = lambda _, __: None
        """Called with each call of one of the `targets` and its frame; what it returns is raised."""

    def enter(self, name: str) -> None:
        """Called at the start of the function `name`."""
        if name in self.targets:
            error = self.decide(name, sys._getframe(1))
            if error is not None:
                raise error
        if self.seen is not None:
            self.seen.add(name)
        elif self.visited is not None:
            self.calls[name] += 1
            self.visited[name] = self.visited.get(name) or self.is_special(sys._getframe(1))


class _Instrumenter(ast.NodeTransformer):
    def __init__(self, module: str) -> None:
        self._names = [module]
        self.functions: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node, node.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        name = f"<lambda:{node.lineno}>"
        self._inside(node, name)
        entered = ast.Tuple([self._call(name), node.body], ast.Load())
        node.body = ast.Subscript(entered, ast.Constant(1), ast.Load())
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._inside(node, node.name)
        if all(isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in node.body):
            return node  # a docstring or `...`: of a Protocol, and never called
        has_docstring = ast.get_docstring(node) is not None
        node.body.insert(int(has_docstring), ast.Expr(self._call(node.name)))
        return node

    def _inside(self, node: ast.AST, name: str) -> ast.AST:
        self._names.append(name)
        self.generic_visit(node)
        self._names.pop()
        return node

    def _call(self, name: str) -> ast.Call:
        full = ".".join((*self._names, name)).removeprefix(f"{PACKAGE}.")
        self.functions.append(full)
        return ast.Call(ast.Name(_HOOK, ast.Load()), [ast.Constant(full)], [])


def instrumented(source: str, module: str) -> ast.Module:
    """The tree of a module with a call at the start of each function."""
    tree = ast.parse(source)
    _Instrumenter(module).visit(tree)
    return ast.fix_missing_locations(tree)


def functions_of(source: str, module: str) -> list[str]:
    """The names of all functions of a module, as `Probe` is told them."""
    instrumenter = _Instrumenter(module)
    instrumenter.visit(ast.parse(source))
    return instrumenter.functions


class _Loader(importlib.machinery.SourceFileLoader):
    def source_to_code(  # type: ignore[override]  # the base class has it with other names
        self, data: Any, path: Any, *, _optimize: int = -1
    ) -> Any:
        return compile(instrumented(bytes(data).decode(), self.name), path, "exec", dont_inherit=True)

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.get_filename(fullname)), self.get_filename(fullname))


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name.partition(".")[0] != PACKAGE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install(probe: Probe) -> None:
    """Instrument everything of the package that is imported from here on."""
    assert PACKAGE not in sys.modules
    setattr(builtins, _HOOK, probe.enter)
    sys.meta_path.insert(0, _Finder())


def compile_clause(source: str, filename: str, mode: str) -> Any:
    """In place of `compile` where the source of clauses is compiled."""
    return compile(instrumented(source, filename), filename, mode)
