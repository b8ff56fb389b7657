"""`Files` that lose unsynced data in a simulated power cut.

kill -9 does not lose the page cache, so it does not test syncs. `ForgetfulFiles` works on real files under
`root`, which any process can read, and stores in `durable_root`, on the same file system, what survives a
power cut:

* `journal`: every change of names and every sync of a directory, one JSON line each, in order;
* `durable/<id>`: the content of file `<id>` as of its last sync;
* `live/<id>`: a hard link to the real file, so that its unsynced bytes can be read after the process has
  ended.

All survive a kill of the process. `forget` then changes `root` to a possible state after a power cut: names
as of the last sync of their directory with a random part of the later changes, content as of the last sync of
the file with a random part of the later pages. A lost page inside a longer file reads as zeros.

A new `ForgetfulFiles` on the same two directories continues with the same unsynced data.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgshapes.shape_log.file_store.files import RealFiles

PAGE_BYTES = 4096
ROOT_ID = 0


@dataclass
class Directory:
    """The names in a directory, and their changes since its last sync."""

    id: int
    names: dict[str, Directory | File] = field(default_factory=dict)
    durable: dict[str, Directory | File] = field(default_factory=dict)
    unsynced: list[tuple[str, Directory | File | None]] = field(default_factory=list)
    """Each later change of a name, in order: the new node, or None."""

    def put(self, name: str, node: Directory | File | None) -> None:
        if node is None:
            self.names.pop(name, None)
        else:
            self.names[name] = node
        self.unsynced.append((name, node))

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.unsynced = []

    def after_power_cut(self, chance: random.Random, survival: float) -> dict[str, Directory | File]:
        names = dict(self.durable)
        for name, node in self.unsynced:
            if chance.random() < survival:
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = node
        return names


@dataclass
class File:
    """A file; `low` and `high` bound the bytes that were written since its last sync."""

    id: int
    low: int = 0
    high: int = 1 << 62

    def wrote(self, start: int, end: int) -> None:
        self.low, self.high = min(self.low, start), max(self.high, end)

    def take_unsynced(self) -> tuple[int, int]:
        bounds = self.low, self.high
        self.low, self.high = 1 << 62, 0
        return bounds


class Tree:
    """All names under a root, volatile and durable, according to the journal."""

    def __init__(self) -> None:
        self.root = Directory(ROOT_ID)
        self.next_id = 1

    def apply(self, event: Sequence[Any]) -> None:
        match event:
            case ("make", path, kind):
                parent, name = self.parent(path)
                parent.put(name, Directory(self.next_id) if kind == "directory" else File(self.next_id))
                self.next_id += 1
            case ("rename", old, new):
                parent, name = self.parent(old)
                node = parent.names[name]
                parent.put(name, None)
                parent, name = self.parent(new)
                parent.put(name, node)
            case ("remove", path):
                parent, name = self.parent(path)
                parent.put(name, None)
            case ("sync", path):
                self.directory(path).sync()
            case _:
                raise ValueError(f"unknown event {event!r}")

    def find(self, path: str) -> Directory | File | None:
        node: Directory | File | None = self.root
        for name in filter(None, path.split("/")):
            node = node.names.get(name) if isinstance(node, Directory) else None
        return node

    def directory(self, path: str) -> Directory:
        node = self.find(path)
        if not isinstance(node, Directory):
            raise FileNotFoundError(path)
        return node

    def file(self, path: str) -> File:
        node = self.find(path)
        if not isinstance(node, File):
            raise FileNotFoundError(path)
        return node

    def parent(self, path: str) -> tuple[Directory, str]:
        above, _, name = path.rpartition("/")
        return self.directory(above), name


class ForgetfulFiles:
    """`Files` (shape_log/file_store/files.py). Owns both directories; `root` must exist."""

    def __init__(self, root: str | os.PathLike[str], durable_root: str | os.PathLike[str]) -> None:
        self._root = str(Path(root).absolute())
        self._durable_root = Path(durable_root).absolute()
        self._real = RealFiles(self._root)
        self._open: dict[int, File] = {}
        self._lock = threading.RLock()
        if not (self._durable_root / "journal").exists():
            _take_as_durable(Path(self._root), self._durable_root)
        self._tree = _read_journal(self._durable_root)
        self._journal = os.open(self._durable_root / "journal", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._journal)

    def make_directory(self, path: str) -> bool:
        with self._lock:
            if path == self._root or not self._real.make_directory(path):
                return False
            self._record("make", self._name(path), "directory")
            return True

    def open(self, path: str) -> int:
        with self._lock:
            name = self._name(path)
            descriptor = self._real.open(path)
            if self._tree.find(name) is None:
                os.link(path, self._durable_root / "live" / str(self._tree.next_id))
                self._record("make", name, "file")
                self._tree.file(name).take_unsynced()
            self._open[descriptor] = self._tree.file(name)
            return descriptor

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        with self._lock:
            self._open[descriptor].wrote(position, position + len(data))
            self._real.write_at(descriptor, data, position)

    def close(self, descriptor: int) -> None:
        with self._lock:
            del self._open[descriptor]
            self._real.close(descriptor)

    def truncate(self, path: str, size: int) -> None:
        with self._lock:
            self._real.truncate(path, size)
            self._tree.file(self._name(path)).wrote(size, size)

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            self._real.rename(old, new)
            self._record("rename", self._name(old), self._name(new))

    def remove_tree(self, path: str) -> None:
        with self._lock:
            self._real.remove_tree(path)
            if self._tree.find(self._name(path)) is not None:
                self._record("remove", self._name(path))

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        return self._sync_each(paths, self._sync_file)

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        return self._sync_each(paths, self._sync_directory)

    def _sync_each(self, paths: Iterable[str], sync: Any) -> dict[str, OSError]:
        failed: dict[str, OSError] = {}
        for path in paths:
            try:
                with self._lock:
                    sync(path)
            except OSError as error:
                failed[path] = error
        return failed

    def _sync_file(self, path: str) -> None:
        file = self._tree.file(self._name(path))
        low, high = file.low, file.high
        if low > high:
            return
        durable = self._durable_root / "durable" / str(file.id)
        durable.touch()
        with Path(path).open("rb") as source, durable.open("r+b") as target:
            size = os.fstat(source.fileno()).st_size
            target.truncate(size)
            source.seek(low)
            target.seek(low)
            target.write(source.read(max(min(high, size) - low, 0)))
        file.take_unsynced()  # not before: without a descriptor nothing was synced

    def _sync_directory(self, path: str) -> None:
        if not path.startswith(self._root):
            return
        self._record("sync", self._name(path))

    def _record(self, *event: str) -> None:
        self._tree.apply(event)
        os.write(self._journal, json.dumps(event).encode() + b"\n")

    def _name(self, path: str) -> str:
        if path == self._root:
            return ""
        if not path.startswith(self._root + "/"):
            raise ValueError(f"{path} is not under {self._root}")
        return path[len(self._root) + 1 :]


def forget(
    root: str | os.PathLike[str], durable_root: str | os.PathLike[str], seed: int, *, survival: float = 0.5
) -> None:
    """Cut the power: rebuild `root` from what was durable and a random part, `survival`, of what was not.

    The writing process must have ended or must not write any more. Afterwards all of `root` is durable.
    """
    root, durable_root = Path(root), Path(durable_root)
    chance = random.Random(seed)
    tree = _read_journal(durable_root)
    rebuilt = durable_root / "rebuilt"
    rebuilt.mkdir()
    _rebuild(tree.root, rebuilt, durable_root, chance, survival)
    for path in root.iterdir():
        _remove(path)
    for path in rebuilt.iterdir():
        path.rename(root / path.name)
    shutil.rmtree(durable_root)


def _rebuild(
    directory: Directory, path: Path, durable_root: Path, chance: random.Random, survival: float
) -> None:
    for name, node in directory.after_power_cut(chance, survival).items():
        if isinstance(node, Directory):
            (path / name).mkdir()
            _rebuild(node, path / name, durable_root, chance, survival)
        else:
            durable = durable_root / "durable" / str(node.id)
            before = durable.read_bytes() if durable.exists() else b""
            now = (durable_root / "live" / str(node.id)).read_bytes()
            (path / name).write_bytes(_content_after_power_cut(before, now, chance, survival))


def _content_after_power_cut(durable: bytes, live: bytes, chance: random.Random, survival: float) -> bytes:
    """Each page is the old one or the new one; the size is one of the two, or between them."""
    low, high = sorted((len(durable), len(live)))
    size = chance.choice((low, high, chance.randint(low, high)))
    pages = []
    for start in range(0, size, PAGE_BYTES):
        end = min(start + PAGE_BYTES, size)
        page = (live if chance.random() < survival else durable)[start:end]
        pages.append(page.ljust(end - start, b"\0"))
    return b"".join(pages)


def _take_as_durable(root: Path, durable_root: Path) -> None:
    """Start a journal in which everything under `root` is durable; again if that was interrupted."""
    shutil.rmtree(durable_root, ignore_errors=True)
    for name in ("durable", "live"):
        (durable_root / name).mkdir(parents=True)
    events: list[tuple[str, ...]] = []
    number = 1
    for path in sorted(root.rglob("*")):
        kind = "directory" if path.is_dir() else "file"
        events.append(("make", str(path.relative_to(root)), kind))
        if kind == "file":
            os.link(path, durable_root / "live" / str(number))
            shutil.copyfile(path, durable_root / "durable" / str(number))
        number += 1
    directories = [root, *(path for path in root.rglob("*") if path.is_dir())]
    events += [("sync", "" if path == root else str(path.relative_to(root))) for path in directories]
    lines = "".join(json.dumps(event) + "\n" for event in events)
    written = durable_root / "journal.new"
    written.write_text(lines)
    written.rename(durable_root / "journal")


def _read_journal(durable_root: Path) -> Tree:
    tree = Tree()
    for line in (durable_root / "journal").read_text().splitlines():
        tree.apply(json.loads(line))
    return tree


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
