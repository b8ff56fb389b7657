"""`pgshapes doctor` as it is run, and its lines."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

RUN_TIMEOUT_S = 60.0
MARKS = "✓!✗"


class Line(NamedTuple):
    """One finding as it is printed, with the statements below it."""

    mark: str
    text: str
    """Subject and text."""
    sql: tuple[str, ...]


class Report(NamedTuple):
    """What one run printed."""

    status: int
    output: str
    lines: tuple[Line, ...]

    def failing(self) -> list[Line]:
        """The lines with ✗."""
        return [line for line in self.lines if line.mark == "✗"]

    def about(self, text: str) -> Line:
        """The one line with this text."""
        (line,) = [line for line in self.lines if text in line.text]
        return line


def run_doctor(url: str, *arguments: str, **variables: str) -> Report:
    """Run it on a database; `variables` are environment variables."""
    outside = {
        k: v for k, v in os.environ.items() if not k.startswith(("PGSHAPES_", "ELECTRIC_", "DATABASE_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pgshapes.cli", "doctor", "--database-url", url, *arguments],
        env=outside | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=RUN_TIMEOUT_S,
    )
    output = (done.stdout + done.stderr).decode()
    return Report(done.returncode, output, tuple(_lines(done.stdout.decode())))


def _lines(output: str) -> list[Line]:
    lines: list[Line] = []
    for text in output.splitlines():
        if text[:1] and text[0] in MARKS:
            lines.append(Line(text[0], text[2:], ()))
        elif text.startswith("    "):
            lines[-1] = lines[-1]._replace(sql=(*lines[-1].sql, text.strip()))
    return lines
