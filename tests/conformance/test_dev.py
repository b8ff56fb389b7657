"""`pgshapes dev`: the printed commands work, and one Ctrl-C ends all processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.conformance.node_program import DEADLINE_S

from pgshapes.cli.dev_guide import LAST_LINE

ROOT = Path(__file__).resolve().parents[2]

Process = asyncio.subprocess.Process
pytestmark = pytest.mark.xdist_group("dev")


@contextlib.asynccontextmanager
async def shell(command: str, folder: Path = ROOT) -> AsyncIterator[Process]:
    """A pasted command, in its own process group."""
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, cwd=folder, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def lines_until(process: Process, word: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        while not lines or word not in lines[-1]:
            line = await process.stdout.readline()
            assert line, f"ended before {word!r}: {lines}"
            lines.append(line.decode().rstrip("\n"))
    return lines


@contextlib.asynccontextmanager
async def dev(folder: Path, *options: str) -> AsyncIterator[tuple[Process, list[str]]]:
    """The program and its guide. The folder is not that of the checkout."""
    arguments = " ".join(["dev", "--port", "0", *options])
    async with shell(f"exec {sys.executable} -m pgshapes.cli {arguments}", folder) as process:
        yield process, await lines_until(process, LAST_LINE)


async def interrupt(process: Process) -> int:
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(DEADLINE_S):
        return await process.wait()


def command_with(guide: list[str], word: str) -> str:
    return next(line for line in guide if word in line).strip()


def database_url(guide: list[str]) -> str:
    return command_with(guide, "postgresql://").split()[-1]


async def test_the_printed_commands_work(tmp_path: Path) -> None:
    async with dev(tmp_path, "--fresh") as (process, guide):
        if shutil.which("curl"):
            for line in [line for line in guide if line.strip().startswith("curl")]:
                async with shell(line) as curl:
                    assert "200 OK" in (await lines_until(curl, "200"))[-1]
                    await lines_until(curl, '"operation"')
        async with shell(command_with(guide, "follow.mjs")) as node:
            await lines_until(node, "up-to-date")
            await lines_until(node, '"operation"')
        async with shell(command_with(guide, "tail items")) as tail:
            await lines_until(tail, "up-to-date")
            await lines_until(tail, '"operation"')
        start = next(number for number, line in enumerate(guide) if "<<'END'" in line)
        async with shell("\n".join(guide[start : guide.index("END") + 1])) as snippet:
            await lines_until(snippet, "Operation.")
        assert await interrupt(process) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder() -> Iterator[Path]:
    """Postgres does not run as root, and the account that it runs as must have access to its data. Each start
    of pytest closes the parents of `tmp_path` to it, also while other tests run.
    """
    with tempfile.TemporaryDirectory(prefix="pgshapes-dev-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_data_are_kept(folder: Path) -> None:
    async with dev(folder) as (process, guide):
        with psycopg.connect(database_url(guide), autocommit=True) as connection:
            connection.execute("CREATE TABLE mine AS SELECT 7 AS number")
        assert await interrupt(process) == 0
    async with dev(folder) as (process, guide):
        with psycopg.connect(database_url(guide)) as connection:
            assert connection.execute("SELECT number FROM mine").fetchall() == [(7,)]
        assert await interrupt(process) == 0
    assert sorted(path.name for path in (folder / ".pgshapes").iterdir()) == ["postgres", "shapes"]
