"""Names and sizes for findings: printable, and SQL that can be pasted. Pure."""

from __future__ import annotations

from typing import Final

from pgshapes.model.quoting import quote_identifier, quote_literal

_UNITS: Final = (("GB", 2**30), ("MB", 2**20), ("kB", 2**10))


def sql_name(*parts: str) -> str:
    """A name for SQL, each part quoted; characters that a terminal would act on are escaped."""
    return ".".join(_quoted(part) for part in parts)


def sql_text(text: str) -> str:
    """A string constant for SQL, on one line."""
    if text.isprintable():
        return quote_literal(text)
    return "U&" + "'" + _escaped(text).replace("'", "''") + "'"


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


def _quoted(name: str) -> str:
    if name.isprintable():
        return quote_identifier(name)
    return 'U&"' + _escaped(name).replace('"', '""') + '"'


def _escaped(text: str) -> str:
    """The text with Unicode escapes (manual: Identifiers and Key Words)."""
    return "".join(
        "\\\\" if each == "\\" else each if each.isprintable() else f"\\+{ord(each):06x}" for each in text
    )
