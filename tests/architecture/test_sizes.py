"""Files and functions stay small enough to be read at one sitting."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.architecture.source import ROOT, modules

LONGEST_FILE = 500
LONGEST_FUNCTION = 60

# Name → why it is longer. One line each; an exception that is not needed any more fails the test.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


@pytest.mark.parametrize("name", modules())
def test_files(name: str) -> None:
    assert (modules()[name].lines > LONGEST_FILE) == (name in LONG_FILES), modules()[name].lines


@pytest.mark.parametrize("name", modules())
def test_functions(name: str) -> None:
    long = {function for function, lines in modules()[name].functions() if lines > LONGEST_FUNCTION}
    excepted = {function for function in LONG_FUNCTIONS if function.startswith(f"{name}.")}
    assert long - excepted == set(), "too long"
    assert {function for function in excepted if modules().get(function.rpartition(".")[0])} <= long, (
        "no exception needed any more"
    )


def test_exceptions_are_of_something() -> None:
    functions = {function for module in modules().values() for function, _ in module.functions()}
    assert set(LONG_FUNCTIONS) <= functions
    assert set(LONG_FILES) <= set(modules())


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_files_beside_the_package(folder: str) -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for path in (ROOT / folder).rglob("*.py")
        if "node_modules" not in path.parts and (lines := _lines(path)) > LONGEST_FILE
    ]
    assert not long


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")
