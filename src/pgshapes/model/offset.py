"""Positions in a shape's log (docs/protocol.md).

An offset is `(tx, op)`: the commit LSN of a transaction and the number of an operation in it. It is never an
LSN and never a byte position. `0_n` is the end of snapshot chunk n, `0_inf` is after the snapshot and before
any transaction. Offsets compare as tuples.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

INFINITE_OP: Final = 2**63 - 1


class Offset(NamedTuple):
    """A position in a shape's log; what follows has a strictly greater offset."""

    tx: int
    op: int

    def __str__(self) -> str:
        return format_offset(self)


BEFORE_ALL: Final = Offset(-1, 0)
FIRST_SNAPSHOT_CHUNK: Final = Offset(0, 0)
AFTER_SNAPSHOT: Final = Offset(0, INFINITE_OP)

_FORM = re.compile(r"\+?(\d{1,20})_(?:\+?(\d{1,19})|(inf))", re.ASCII)


def parse_offset(text: str) -> Offset:
    """`-1`, `tx_op` or `tx_inf` as an offset. Raises ValueError; `now` is not an offset."""
    if text in ("-1", "-1_0"):
        return BEFORE_ALL
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"not an offset: {text!r}")
    tx, op, infinite = found.groups()
    offset = Offset(int(tx), INFINITE_OP if infinite else int(op))
    if offset.tx >= 2**64 or offset.op > INFINITE_OP:
        raise ValueError(f"offset out of range: {text!r}")
    return offset


def format_offset(offset: Offset) -> str:
    """The offset as it is sent to clients."""
    tx, op = offset
    if tx < 0:
        return "-1"
    return f"{tx}_inf" if op == INFINITE_OP else f"{tx}_{op}"
