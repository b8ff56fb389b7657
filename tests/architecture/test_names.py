"""Names say what a thing is; `__init__` files hold a docstring and names; every module says what it is."""

from __future__ import annotations

import ast
import re
from collections import Counter

from tests.architecture.source import Function, modules

EMPTY_FILE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "core", "misc"}
EMPTY_ENDINGS = ("Manager", "Handler", "Service", "Util", "Utils", "Helper", "Helpers")
UNFINISHED = re.compile(r"#.*\b(?:TODO|FIXME|XXX|HACK)\b")


def test_files_are_named_after_what_is_in_them() -> None:
    assert [name for name in modules() if set(re.split(r"[._]", name)) & EMPTY_FILE_NAMES] == []


def test_classes_are_named_after_what_they_are() -> None:
    classes = [
        f"{module.name}.{node.name}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    assert [each for each in classes if each.endswith(EMPTY_ENDINGS)] == []


def test_a_slot_is_named_once() -> None:
    twice = [
        f"{module.name}: {name}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == ["__slots__"]
        for name, count in Counter(ast.literal_eval(node.value)).items()
        if count > 1
    ]
    assert twice == []


def test_a_module_says_what_it_is() -> None:
    assert [name for name, module in modules().items() if not ast.get_docstring(module.tree)] == []


def test_public_things_are_documented() -> None:
    missing = {name: _undocumented(module.tree) for name, module in modules().items()}
    assert {name: things for name, things in missing.items() if things} == {}


def test_init_files_hold_a_docstring_and_names() -> None:
    packages = [module for module in modules().values() if module.is_package]
    wrong = [each.name for each in packages if not all(map(_is_docstring_or_name, each.tree.body))]
    assert wrong == []


def test_nothing_is_left_unfinished() -> None:
    assert [name for name, module in modules().items() if UNFINISHED.search(module.text)] == []


def _undocumented(node: ast.Module) -> list[str]:
    missing = []
    for child in node.body:
        if not isinstance(child, Function | ast.ClassDef) or child.name.startswith("_"):
            continue
        if not ast.get_docstring(child) and not _is_overload(child):
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
