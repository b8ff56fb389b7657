"""Log readers for tests that have no event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import ANY_SIZE, LogReader, LogSlice

T = TypeVar("T")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, as reads from files and from memory do not."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("the reader suspended: give `Reading` something that runs an event loop")


@dataclass(frozen=True)
class Reading:
    """A `LogReader` with synchronous calls; `run` runs the coroutines."""

    reader: LogReader
    run: Run = at_once

    def read_snapshot_chunk(self, handle: str, number: int) -> bytes:
        chunk: bytes = self.run(self.reader.read_snapshot_chunk(handle, number))
        return chunk

    def snapshot_chunk_size(self, handle: str, number: int) -> int:
        size: int = self.run(self.reader.snapshot_chunk_size(handle, number))
        return size

    def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        found: LogSlice = self.run(self.reader.read_log(handle, after, tail, most))
        return found

    def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
        part: bytes = self.run(self.reader.read_part(handle, chunk, position, size))
        return part
