"""Every function on the change path raises in turn; only what it is for ends."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tests.architecture.source import ROOT


@pytest.mark.timeout(900)
def test_only_what_an_error_is_for_ends() -> None:
    """In a process of its own, in which the package is instrumented. The output says what is wrong."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.seams.raise_everywhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
    found = re.match(r"(\d+) functions, (\d+) runs, (\d+) errors raised", ran.stdout)
    assert found is not None, ran.stdout[:500]
    functions, runs, raised = map(int, found.groups())
    assert functions > 150 and 2 * functions < runs < 3 * functions and raised > runs
