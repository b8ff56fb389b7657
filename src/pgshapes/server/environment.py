"""Sets up a process of the server: logging, secrets, the limit of open files, and the garbage collector."""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import structlog

from pgshapes.config import Settings
from pgshapes.limited_log import Due
from pgshapes.logs import LOST, shortened
from pgshapes.redaction import MASK, redaction


def configure_logs(level: str) -> None:
    """Configure the level and the format of this process's log lines; no line contains a hidden secret.

    That includes the lines of libraries and the traceback of an error that ends the process. None of them
    raises an error when it cannot be written.
    """
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            LOST.report,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _shorten_traceback,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"], sort_keys=False),
            _redact,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )

    handler = _StandardError()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_RedactingFormatter())
    handler.addFilter(_Limit())
    logging.basicConfig(handlers=[handler])
    sys.excepthook = _print_redacted


def _shorten_traceback(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The text of an error may quote a value of a row."""
    if "exception" in fields:
        fields["exception"] = shortened(fields["exception"])
    return fields


def _redact(_: Any, __: str, line: Any) -> Any:
    return redaction.redact(line)


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redaction.redact(super().format(record))


class _Limit(logging.Filter):
    """Leaves out lines of the HTTP server that were written a short time ago: clients decide how many."""

    def __init__(self) -> None:
        super().__init__()
        self._due = Due()

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("uvicorn"):
            return True
        kind = record.exc_info[0] if record.exc_info else None
        left_out = self._due.take((record.name, record.msg, kind), time.monotonic())
        if left_out:
            record.msg = f"{str(record.msg).rstrip()} (left out before: {left_out})"
        return left_out is not None


class _StandardError(logging.StreamHandler[Any]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in `logging`
        """Count the line; the class above would write a traceback to the same stream."""
        LOST.note(LOST.unreported)


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(redaction.redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def hide_secrets(settings: Settings) -> None:
    """Keep the secrets of these settings out of the texts that this process writes."""
    redaction.hide({*settings.secrets(), os.environ.get("PGPASSWORD", "")})


_ARGUMENTS: Final = slice(45, 47)
"""`arg_start` and `arg_end` among the fields that follow the program's name in /proc/self/stat (proc(5))."""


def hide_arguments(values: Iterable[str]) -> None:
    """Overwrite these values in the command line of this process, which other users can see.

    On Linux only: other systems keep the command line where a process cannot write.
    """
    hidden = {os.fsencode(value) for value in values if value}
    with suppress(OSError, ValueError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = map(int, fields[_ARGUMENTS])
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start).split(b"\0")
            memory.seek(start)
            memory.write(b"\0".join(_masked(argument, hidden) for argument in arguments))


def _masked(argument: bytes, hidden: set[bytes]) -> bytes:
    """The argument, of the same length, without a hidden value: `VALUE` or `--option=VALUE`."""
    option, equals, value = argument.partition(b"=")
    if argument in hidden:
        option, equals, value = b"", b"", argument
    elif not equals or value not in hidden:
        return argument
    return option + equals + MASK.encode()[: len(value)].ljust(len(value))


def raise_nofile_limit() -> int:
    """Raise the soft limit of open files to the hard limit and return it.

    Each held poll uses one file, each log that is written to uses two.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return nofile_limit()


def nofile_limit() -> int:
    """The soft limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft


_LARGEST_RESERVE: Final = 256


def default_max_connections(nofile: int, *, with_owner: bool) -> int:
    """How many connections leave enough descriptors for files, links and Postgres.

    An owner in the same process keeps up to half of the descriptors for logs.
    """
    left = nofile // 2 if with_owner else nofile
    return max(left - min(left // 4, _LARGEST_RESERVE), 1)


THRESHOLDS: Final = (10_000, 10, 20)
"""Thresholds of generations 0, 1 and 2. Collections of generations 0 and 1 take about 1 ms and 10 ms; a full
collection runs after two million more objects, some hundred megabytes. With the defaults of 700, 10 and 10 it
runs after 70,000.
"""


def tune_gc() -> None:
    """Exclude all current objects from garbage collection and set `THRESHOLDS`.

    Call it after all modules are imported: those objects live as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
