"""Sizes and times as findings show them, and SQL that can be printed and pasted. Pure."""

from __future__ import annotations

import re
from typing import Final

_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"|E?\'(?:[^\']|\'\')*\'')
_UNITS: Final = (("GB", 2**30), ("MB", 2**20), ("kB", 2**10))


def printable_sql(statement: str) -> str:
    """The statement on one line, with Unicode escapes for what a terminal would act on (manual: Lexical
    Structure). Names and string constants may have any character.
    """
    if statement.isprintable():
        return statement
    return _QUOTED.sub(lambda found: _escaped(found[0]), statement)


def shown_size(size: int) -> str:
    """A number of bytes in the units of Postgres's settings: `1.5 GB`."""
    for unit, factor in _UNITS:
        if size >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} bytes"


def shown_time(seconds: float) -> str:
    """A duration, to whole seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _escaped(quoted: str) -> str:
    """A delimited identifier or a string constant, as one with Unicode escapes if it needs them."""
    if quoted.isprintable():
        return quoted
    if quoted.startswith("E"):
        quoted = quoted[1:].replace("\\\\", "\\")
    text = "".join(
        "\\\\" if each == "\\" else each if each.isprintable() else f"\\+{ord(each):06x}" for each in quoted
    )
    return f"U&{text}"
