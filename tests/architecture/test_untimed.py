"""Machines are shared and noisy: no test fails because an example took long."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, settings
from tests.architecture.source import ROOT


def test_examples_have_no_deadline() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


def test_no_test_sets_one() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts]
    assert [path.name for path in tests if re.search(r"@settings\([^)]*deadline=", path.read_text())] == []
