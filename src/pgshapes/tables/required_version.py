"""The version that tables must have to be served from, in memory that all processes of an instance share.

A version is the epoch of an owner and the number of a frame of it. The owner writes it, every process reads
it: a new owner its epoch, before any process can get its tables; later the number of the frame that retired
shapes, before clients get a 409 for them. So a process that cannot reach the owner, or has not noticed yet
that there is another one, does not serve what has been removed. Until a new owner begins, the version stays
as it is, and all processes serve known shapes.

Only the owner writes. An epoch is never 0, and the numbers of an owner begin after those that earlier ones
have required, so that the two words need not be read or written at once.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import MutableSequence
from pathlib import Path
from typing import Final, cast

from pgshapes.errors import ConfigError

EPOCH: Final = 0
NUMBER: Final = 1
_WORD_BYTES: Final = 8
_WORDS: Final = 2

RequiredVersion = MutableSequence[int]
"""The epoch and the number, in this order."""


def create_required_version(path: Path) -> None:
    """Create the file that processes map; nothing may be served before an owner has written it."""
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
    try:
        os.ftruncate(descriptor, _WORDS * _WORD_BYTES)
    finally:
        os.close(descriptor)


def map_required_version(path: Path) -> RequiredVersion:
    """The version in the file, for as long as the process lives. Raises ConfigError."""
    try:
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot map {path}: {error}") from error
    return cast(RequiredVersion, memoryview(mapped).cast("q"))
