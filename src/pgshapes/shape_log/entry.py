"""What is appended to a shape's log and what is read back from it."""

from __future__ import annotations

from typing import NamedTuple

from pgshapes.model.offset import Offset


class Entry(NamedTuple):
    """One log message: its place and its ready JSON text (no separators)."""

    offset: Offset
    json: bytes


class LogSlice(NamedTuple):
    """A piece of a log that answers one request."""

    body: bytes
    """Messages joined by `,`, without brackets; may be empty."""
    end: Offset
    """Offset of the last message covered: the chunk's end, or the tail's `latest`."""
    is_chunk_end: bool
    """Whether the slice stops at a closed chunk's end."""
