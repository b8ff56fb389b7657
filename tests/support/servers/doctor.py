"""`pgshapes doctor` as it is run, and its lines."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple
from unittest.mock import patch

from pgshapes.cli import main
from pgshapes.redaction import redaction

RUN_TIMEOUT_S = 120.0
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
    """Run it on a database, in this process; `variables` are environment variables."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    command = ["pgshapes", "doctor", "--database-url", url, *arguments]
    with (
        patch.object(sys, "argv", command),
        patch.dict(os.environ, environment(variables), clear=True),
        patch.multiple(redaction, _hidden=set(), _pattern=None),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code
    output.seek(0)
    text = output.read()
    assert isinstance(status, int)
    return Report(status, text, tuple(_lines(text)))


def run_program(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run it on a database as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pgshapes.cli", "doctor", *arguments],
        env=environment({"DATABASE_URL": url} | variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=RUN_TIMEOUT_S,
    )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of the tests without settings of a server, and these variables."""
    outside = {
        k: v for k, v in os.environ.items() if not k.startswith(("PGSHAPES_", "ELECTRIC_", "DATABASE_"))
    }
    return outside | dict(variables)


def _lines(output: str) -> list[Line]:
    lines: list[Line] = []
    for text in output.splitlines():
        if text[:1] and text[0] in MARKS:
            lines.append(Line(text[0], text[2:], ()))
        elif text.startswith("    "):
            lines[-1] = lines[-1]._replace(sql=(*lines[-1].sql, text.strip()))
    return lines
