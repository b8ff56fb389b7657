"""A log line that cannot be written is dropped and counted, and what reports an error goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from tests.architecture.source import modules

from pgshapes import logs
from pgshapes.logs import LONGEST, LOST, get_logger
from pgshapes.redaction import Redaction

FULL = Path("/dev/full")
"""A file on Linux that is like one on a full disk."""

REPORT = """
import asyncio, logging
from pgshapes.logs import LOST, get_logger
from pgshapes.server.environment import configure_logs
from pgshapes.waiting.keep_running import keep_running

configure_logs("info")
runs = 0

async def work():
    global runs
    runs += 1
    if runs < 4:
        raise OSError(runs, "the trash cannot be emptied")

asyncio.run(keep_running("emptying the trash", work, first_pause_s=0, longest_pause_s=0))
get_logger("ours").debug("below the level")
logging.getLogger("theirs").warning("of a library")
print(runs, LOST.count)
"""


LONG = """
from pgshapes.logs import get_logger
from pgshapes.server.environment import configure_logs
configure_logs("info")
try:
    raise ValueError("x" * 1_000_000 + " at the end")
except ValueError:
    get_logger("ours").exception("failed")
"""


@pytest.mark.skipif(not FULL.exists(), reason="there is no such file")
def test_a_loop_goes_on_while_its_errors_cannot_be_logged() -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", REPORT], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (0, "4 4\n"), "four runs, and one line of a library"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What is written, unless `fails` is a field."""
    written: list[Any] = []

    def write(_: Any, __: str, fields: MutableMapping[str, Any]) -> NoReturn:
        if (error := fields.pop("fails", None)) is not None:
            raise error
        written.append(dict(fields))
        raise structlog.DropEvent

    monkeypatch.setattr(LOST, "count", 0)
    before = structlog.get_config()
    structlog.reset_defaults()
    structlog.configure(processors=[LOST.report, write], cache_logger_on_first_use=False)
    yield written
    structlog.configure(**before)


@pytest.mark.parametrize(
    "error", [OSError(28, "full"), ValueError("closed"), MemoryError(), RecursionError()]
)
@pytest.mark.parametrize("level", ["info", "warning", "error", "exception"])
def test_no_level_raises(lines: list[Any], level: str, error: Exception) -> None:
    getattr(get_logger("x"), level)("lost", fails=error)
    assert (lines, LOST.count) == ([], 1)
    get_logger("x").info("written")
    assert lines == [{"event": "written", "lines_lost": 1}]


def test_the_next_line_has_the_number_of_lines_that_were_lost(lines: list[Any]) -> None:
    log = get_logger("x")
    for number in range(3):
        log.error("lost", fails=OSError(number))
    log.info("first")
    log.info("second")
    assert lines == [{"event": "first", "lines_lost": 3}, {"event": "second"}]
    assert LOST.count == 3


def test_a_cancellation_is_not_dropped(lines: list[Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        get_logger("x").error("interrupted", fails=KeyboardInterrupt())


def test_a_long_value_is_cut(lines: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A text primary key and a clause may have megabytes."""
    key = "a" * 3999 + "okapi-okapi" + "b" * 1_000_000 + "end"
    hidden = Redaction()
    hidden.hide(["okapi-okapi"])
    monkeypatch.setattr(logs, "redaction", hidden)
    get_logger("x").error("failed", key=key, count=3, where="short")
    (line,) = lines
    assert (line["count"], line["where"]) == (3, "short")
    assert len(line["key"]) < LONGEST + 100 and "1004013 characters" in line["key"]
    assert line["key"].endswith("bend") and "oka" not in line["key"]


def test_a_long_traceback_is_cut() -> None:
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert len(done.stderr) < LONGEST + 500, "the text of an error may quote a value"
    assert "ValueError" in done.stderr and "at the end" in done.stderr


def test_all_loggers_are_of_this_kind() -> None:
    others = [
        module.name
        for module in modules().values()
        if "structlog.get_logger" in module.text and module.name != "pgshapes.logs"
    ]
    assert others == []
