"""The readable end of a shape's log; a row of the table `tails`."""

from __future__ import annotations

from typing import NamedTuple

from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset

LogPosition = tuple[int, ...]
"""A position in a log store's files; only the store's writer and reader interpret it."""


class Tail(NamedTuple):
    """How far a shape's snapshot and log can be read. Written by the owner only."""

    latest: Offset = AFTER_SNAPSHOT
    """The last offset that ends a transaction; `0_inf` while the log is empty."""
    last_chunk_bound: Offset = BEFORE_ALL
    """Offset of the last entry at or before `latest` that closed a log chunk; `-1` if none has."""
    snapshot_chunks: int = 0
    """Snapshot chunks that are complete and readable: numbers 0 … n-1."""
    is_snapshot_complete: bool = False
    """Whether `snapshot_chunks` is final."""
    position: LogPosition = ()
    """Empty while the log is empty."""
