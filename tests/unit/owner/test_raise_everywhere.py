"""Every function on the change path raises in turn; only what it is for ends.

Here each raises in one of the ways, drawn from a seed; `python -m tests.support.seams.raise_everywhere` does
it in all.
"""

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
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.support.seams.raise_everywhere",
            "--sample",
            "--pairs",
            "20",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
    found = re.match(r"(\d+) functions, (\d+) runs, (\d+) errors raised, (\d+) second", ran.stdout)
    assert found is not None, ran.stdout[:500]
    functions, runs, raised, second = map(int, found.groups())
    assert functions > 400 and runs > functions and raised > runs and second > 30
