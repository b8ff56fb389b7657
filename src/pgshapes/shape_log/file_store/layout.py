"""Where a shape's files lie. Pure: strings in, strings out.

    <root>/shapes/<first two characters of the handle>/<handle>/{snapshot.0, snapshot.1, …, log, log.index}
    <root>/trash/<handle>.<random>/

A handle becomes a path only after it was checked, so no handle can point outside the root.
"""

from __future__ import annotations

import re
from typing import Final

LOG: Final = "log"
INDEX: Final = "log.index"

_HANDLE = re.compile(r"[0-9a-f]{32,40}", re.ASCII)
_SNAPSHOT = re.compile(r"snapshot\.(0|[1-9][0-9]{0,8})", re.ASCII)


def is_handle(text: str) -> bool:
    """Whether this may be a handle of ours: 128 random bits in decimal or hexadecimal digits."""
    return _HANDLE.fullmatch(text) is not None


def snapshot_name(number: int) -> str:
    """The file of snapshot chunk `number`."""
    return f"snapshot.{number}"


def snapshot_number(name: str) -> int | None:
    """The chunk that a file name stands for, None for other files."""
    found = _SNAPSHOT.fullmatch(name)
    return int(found[1]) if found else None


class Layout:
    """Paths under one storage directory."""

    __slots__ = ("root", "shapes", "trash")

    def __init__(self, root: str) -> None:
        self.root = root
        self.shapes = f"{root}/shapes"
        self.trash = f"{root}/trash"

    def prefix(self, handle: str) -> str:
        """The directory that holds the shape's directory. Raises ValueError on a text that is no handle."""
        if not is_handle(handle):
            raise ValueError(f"not a handle: {handle!r}")
        return f"{self.shapes}/{handle[:2]}"

    def directory(self, handle: str) -> str:
        """The shape's directory. Raises ValueError on a text that is no handle."""
        return f"{self.prefix(handle)}/{handle}"
