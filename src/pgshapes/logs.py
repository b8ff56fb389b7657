"""Loggers, whose methods never raise: the one way to write a line to the log.

The log may be on a full disk, or a pipe whose reader is gone. What reports an error must go on all the same,
so a line that cannot be written is dropped and counted. Keys, clauses and texts of others may have megabytes,
so long values are cut.

State: the counts, in one process; they are exact as long as one thread writes.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from pgshapes.redaction import redaction

LONGEST: Final = 8000
"""Characters of a value: more than any statement that a line tells an operator to run."""


def shortened(text: str) -> str:
    """The beginning and the end of a long text, without a part of a secret."""
    if len(text) <= LONGEST:
        return text
    shown = redaction.redact(text)
    half = LONGEST // 2
    return f"{shown[:half]} … ({len(text)} characters) … {shown[-half:]}"


class LostLines:
    """How many lines were dropped."""

    def __init__(self) -> None:
        self.count = 0
        self.unreported = 0
        """Those since the last line that was written with this number."""

    def note(self, unreported: int) -> None:
        """Count one more line; `unreported` is the number before it."""
        self.count += 1
        self.unreported = unreported + 1

    def report(self, _: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor of structlog that adds the number of lost lines to the next line."""
        if self.unreported:
            fields["lines_lost"] = self.unreported
            self.unreported = 0
        return fields


LOST: Final = LostLines()


class Log:
    """A logger of structlog, as this process configures it, that drops what it cannot write."""

    __slots__ = ("_to",)

    def __init__(self, to: Any) -> None:
        self._to = to

    def debug(self, event: str, **fields: Any) -> None:
        """Write a line that helps to find a defect."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write a line on ordinary events."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write a line on what works again without an operator."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a line on what an operator should see."""
        self._write("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """As `error`, with the traceback of the error that is being handled."""
        self._write("exception", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        unreported = LOST.unreported
        try:
            for name, value in fields.items():
                if isinstance(value, str):
                    fields[name] = shortened(value)
            getattr(self._to, level)(event, **fields)
        except Exception:
            LOST.note(unreported)


def get_logger(name: str) -> Log:
    """The logger of a module."""
    return Log(structlog.get_logger(name))
