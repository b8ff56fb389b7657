"""Names say what a thing is; `__init__` files hold a docstring and names; every module says what it is."""

from __future__ import annotations

import ast
import re

import pytest
from tests.architecture.source import Function, modules

EMPTY_FILE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "core", "misc"}
EMPTY_ENDINGS = ("Manager", "Handler", "Service", "Util", "Utils", "Helper", "Helpers")
UNFINISHED = re.compile(r"#.*\b(?:TODO|FIXME|XXX|HACK)\b")


@pytest.mark.parametrize("name", modules())
def test_files_are_named_after_what_is_in_them(name: str) -> None:
    words = set(re.split(r"[._]", name))
    assert not words & EMPTY_FILE_NAMES


@pytest.mark.parametrize("name", modules())
def test_classes_are_named_after_what_they_are(name: str) -> None:
    classes = [node.name for node in ast.walk(modules()[name].tree) if isinstance(node, ast.ClassDef)]
    assert not [each for each in classes if each.endswith(EMPTY_ENDINGS)]


@pytest.mark.parametrize("name", modules())
def test_a_module_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(modules()[name].tree)


@pytest.mark.parametrize("name", modules())
def test_public_things_are_documented(name: str) -> None:
    assert not _undocumented(modules()[name].tree)


@pytest.mark.parametrize("name", [name for name, module in modules().items() if module.is_package])
def test_init_files_hold_a_docstring_and_names(name: str) -> None:
    wrong = [type(node).__name__ for node in modules()[name].tree.body if not _is_docstring_or_name(node)]
    assert not wrong


@pytest.mark.parametrize("name", modules())
def test_nothing_is_left_unfinished(name: str) -> None:
    assert not UNFINISHED.search(modules()[name].text)


def _undocumented(node: ast.Module) -> list[str]:
    missing = []
    for child in node.body:
        is_public = isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_")
        if is_public and not ast.get_docstring(child) and not _is_overload(child):
            missing.append(child.name)
    return missing


def _is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in decorators)


def _is_docstring_or_name(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_the_checks_find_what_they_look_for() -> None:
    tree = ast.parse("def seen(): pass\nclass A: pass\nx = 1\n'text'\n")
    assert _undocumented(tree) == ["seen", "A"]
    assert [_is_docstring_or_name(node) for node in tree.body] == [False, False, False, True]
