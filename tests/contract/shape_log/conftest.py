"""The log stores to which the contract tests apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.storage.forgetful_files import ForgetfulFiles
from tests.support.storage.memory_store import MemoryLogReader, MemoryShapeStore
from tests.support.storage.reading import Reading

from pgshapes.shape_log.file_store.files import Files, RealFiles
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import ShapeStore


@dataclass
class Harness:
    """A store and a reader."""

    store: ShapeStore
    reader: Reading


def _files(kind: str, disk: Path) -> Files:
    root = disk / "root"
    root.mkdir(parents=True)
    return ForgetfulFiles(root, disk / "durable") if kind == "forgetful" else RealFiles(str(root))


@pytest.fixture(params=["files", "forgetful", "memory"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[int], Harness]]:
    """A function that makes a harness with the given chunk size in bytes."""
    stores: list[FileShapeStore] = []

    def make(chunk_bytes: int) -> Harness:
        if request.param == "memory":
            memory = MemoryShapeStore(chunk_bytes=chunk_bytes)
            return Harness(memory, Reading(MemoryLogReader(memory)))
        disk = tmp_path / str(len(stores))
        store = FileShapeStore(
            disk / "root" / "storage",
            chunk_bytes=chunk_bytes,
            files=_files(request.param, disk),
            max_open_files=6,
        )
        stores.append(store)
        return Harness(store, Reading(FileLogReader(disk / "root" / "storage")))

    yield make
    for store in stores:
        store.close_files()
