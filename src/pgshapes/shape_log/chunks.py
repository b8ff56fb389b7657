"""Where chunks end. Pure.

A chunk closes *with* the item that makes its size reach the threshold (semantics §6), so boundaries depend
on content alone: all readers, and a replay after a crash, cut at the same places however the items were
batched.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate


class RowChunker:
    """Cuts a snapshot's rows into chunks; a row counts its bytes and one for its separator.

    Its state is the size of the open chunk; one snapshot owns it.
    """

    __slots__ = ("_size", "_threshold")

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._size = 0

    def runs(self, rows: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], bool]]:
        """The rows in consecutive runs, each with whether its last row closes the chunk."""
        total = sum(map(len, rows)) + len(rows)
        if self._size + total < self._threshold:
            self._size += total
            if rows:
                yield rows, False
            return
        yield from self._cut(rows)

    def _cut(self, rows: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], bool]]:
        ends = list(accumulate(len(row) + 1 for row in rows))
        start, before = 0, -self._size
        while (last := bisect_left(ends, before + self._threshold, lo=start)) < len(ends):
            yield rows[start : last + 1], True
            start, before = last + 1, ends[last]
        self._size = ends[-1] - before
        if start < len(rows):
            yield rows[start:], False
