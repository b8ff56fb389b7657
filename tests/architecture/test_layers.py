"""Imports go one way, and only where the design lets them."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest
from tests.architecture.layers import ASIDE, IMPURE_MODULES, ONLY_IN, PURE, SIBLINGS, may_import, rank
from tests.architecture.source import PACKAGE, Module, imports, modules, part_imports

# The package's own `__init__` holds the version; everybody may know it.
EVERYBODY_SEES = {PACKAGE}


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name: str) -> None:
    part = modules()[name].part
    if part == PACKAGE:
        assert not imports()[name], "the package's root imports nothing"
        return
    wrong = [
        other
        for other in imports()[name]
        if (other_part := modules()[other].part) not in {part, *EVERYBODY_SEES}
        and not may_import(part, other_part)
    ]
    assert not wrong, f"{name} may not import {', '.join(sorted(wrong))}"


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


@pytest.mark.parametrize("name", [name for name, module in modules().items() if module.part in PURE])
def test_pure_parts_only_compute(name: str) -> None:
    assert not _libraries(modules()[name]) & IMPURE_MODULES


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_its_part(library: str) -> None:
    users = {module.part for module in modules().values() if library in _libraries(module)}
    assert users <= ONLY_IN[library]


def _libraries(module: Module) -> set[str]:
    return {name.partition(".")[0] for name in module.imported_names()}
