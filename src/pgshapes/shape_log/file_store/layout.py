"""The paths of a shape's files. Pure.

    <root>/shapes/<first two characters of the handle>/<handle>/{snapshot.0, snapshot.1, …, log, log.index}
    <root>/trash/<handle>.<random>/

A handle is validated before it becomes part of a path, so no path is outside the root.
"""

from __future__ import annotations

import re
from typing import Final

LOG: Final = "log"
INDEX: Final = "log.index"

_HANDLE = re.compile(r"[0-9a-f]{32,40}", re.ASCII)
_SNAPSHOT = re.compile(r"snapshot\.(0|[1-9][0-9]{0,8})", re.ASCII)


def is_handle(text: str) -> bool:
    """Whether the text has the form of a handle: 128 random bits in decimal or hexadecimal digits."""
    return _HANDLE.fullmatch(text) is not None


def snapshot_name(number: int) -> str:
    """The file name of snapshot chunk `number`."""
    return f"snapshot.{number}"


def snapshot_number(name: str) -> int | None:
    """The number of the snapshot chunk in a file of this name; None for other files."""
    found = _SNAPSHOT.fullmatch(name)
    return int(found[1]) if found else None


class Layout:
    """Paths in one storage directory."""

    __slots__ = ("root", "shapes", "trash")

    def __init__(self, root: str) -> None:
        self.root = root
        self.shapes = f"{root}/shapes"
        self.trash = f"{root}/trash"

    def prefix(self, handle: str) -> str:
        """The parent of the shape's directory. Raises ValueError if the text is not a handle."""
        if not is_handle(handle):
            raise ValueError(f"not a handle: {handle!r}")
        return f"{self.shapes}/{handle[:2]}"

    def directory(self, handle: str) -> str:
        """The shape's directory. Raises ValueError if the text is not a handle."""
        return f"{self.prefix(handle)}/{handle}"
