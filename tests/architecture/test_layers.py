"""Imports go one way, and only where the design lets them."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest
from tests.architecture.layers import ASIDE, IMPURE_MODULES, ONLY_IN, PURE, SIBLINGS, may_import, rank
from tests.architecture.source import PACKAGE, Module, imports, modules, part_imports


def test_imports_point_down() -> None:
    wrong = [
        f"{module.name} may not import {other}"
        for module in modules().values()
        for other in imports()[module.name]
        if not _is_allowed(module.part, modules()[other].part)
    ]
    assert wrong == []


def _is_allowed(part: str, other: str) -> bool:
    if part == PACKAGE:
        return False
    return other in (part, PACKAGE) or may_import(part, other)


def test_every_part_has_a_layer() -> None:
    for part in part_imports():
        assert part == PACKAGE or part in ASIDE or rank(part) >= 0


def test_siblings_see_each_other_for_a_reason() -> None:
    for (part, other), reason in SIBLINGS.items():
        assert rank(part) == rank(other)
        assert (other, part) not in SIBLINGS
        assert reason


def test_no_module_imports_itself_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_pure_parts_only_compute() -> None:
    pure = [module for module in modules().values() if module.part in PURE]
    assert {module.name: used for module in pure if (used := _libraries(module) & IMPURE_MODULES)} == {}


def test_a_library_stays_in_its_part() -> None:
    wrong = [
        f"{module.name} uses {library}"
        for module in modules().values()
        for library in ONLY_IN.keys() & _libraries(module)
        if module.part not in ONLY_IN[library]
    ]
    assert wrong == []


def _libraries(module: Module) -> set[str]:
    return {name.partition(".")[0] for name in module.imported_names()}
