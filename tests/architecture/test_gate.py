"""CI runs what the README says, the gate comes before the tests, and its exceptions have reasons."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from tests.architecture.source import ROOT

TEST_COMMAND = re.compile(r"^(make test)\s+#", re.MULTILINE)
PIN = re.compile(r"^([\w-]+)(?:\[\w+\])?==([^\s;]+)", re.MULTILINE)
REASONED = re.compile(r'^  "([A-Z]+[0-9]+)",\s+# \w', re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tool_settings() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads(read("pyproject.toml"))["tool"]
    return settings


def variable(name: str) -> list[str]:
    """The words of a variable of the Makefile."""
    (words,) = re.findall(rf"^{name} +:= (.+)$", read("Makefile"), re.MULTILINE)
    return str(words).split()


def prerequisites(target: str) -> list[str]:
    (words,) = re.findall(rf"^{target}: (.+)$", read("Makefile"), re.MULTILINE)
    return str(words).split()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = TEST_COMMAND.findall(read("README.md"))
    lines = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert lines == ["set -eu", 'cd "$(dirname "$0")/.."', command]


def test_the_gate_comes_before_the_tests() -> None:
    assert prerequisites("test")[0] == prerequisites("check")[0] == "gate"
    assert prerequisites("gate") == ["format-check", "lint", "types", "generated"]


def test_the_gate_sees_all_code() -> None:
    assert variable("CODE") == tool_settings()["mypy"]["files"]
    assert {"src", "tests", "bench", "tools"} <= set(variable("CODE"))


def test_an_ignored_lint_rule_has_its_reason() -> None:
    lint = tool_settings()["ruff"]["lint"]
    ignored = [*lint["ignore"], *(rule for rules in lint["per-file-ignores"].values() for rule in rules)]
    assert ignored == REASONED.findall(read("pyproject.toml"))


def test_each_requirement_is_pinned_with_hashes() -> None:
    pinned = PIN.findall(read("requirements/dev.txt"))
    hashed = re.findall(r"==[^\n]+ \\\n    --hash=sha256:", read("requirements/dev.txt"))
    assert len(hashed) == len(pinned)
    wanted = [(name.replace("_", "-"), version) for name, version in PIN.findall(read("requirements/dev.in"))]
    assert set(wanted) <= set(pinned), "run make requirements"
