"""Write-ahead-log positions. An LSN is an `int`: bytes since the beginning of the WAL (manual: pg_lsn
type).
"""

from __future__ import annotations

Lsn = int


def parse_lsn(text: str) -> Lsn:
    """The LSN that Postgres writes as `X/Y` (two hexadecimal numbers). Raises ValueError."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: Lsn) -> str:
    """`X/Y`, as Postgres writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
