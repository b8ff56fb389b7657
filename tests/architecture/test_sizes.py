"""Files and functions stay small enough to be read at one sitting."""

from __future__ import annotations

from pathlib import Path

from tests.architecture.source import ROOT, modules

LONGEST_FILE = 500
LONGEST_FUNCTION = 60

# Name → why it is longer. One line each; an exception that is not needed any more fails the test.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def test_files() -> None:
    long = {name: module.lines for name, module in modules().items() if module.lines > LONGEST_FILE}
    assert long.keys() == LONG_FILES.keys(), long


def test_functions() -> None:
    functions = [each for module in modules().values() for each in module.functions()]
    long = {name: lines for name, lines in functions if lines > LONGEST_FUNCTION}
    assert long.keys() == LONG_FUNCTIONS.keys(), long


def test_files_beside_the_package() -> None:
    paths = [path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py")]
    paths = [path for path in paths if "node_modules" not in path.parts]
    assert {str(path): lines for path in paths if (lines := _lines(path)) > LONGEST_FILE} == {}


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")
