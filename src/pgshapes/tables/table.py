"""One table: a map that one process writes and every process reads.

`TableReader` is the callers' side, `Table` is the owner's side, and `TableReplica` is the copy in another
process. None of them depends on processes or bytes. `TableOf` declares a table.

Invariant: a change is in the rows before anyone is notified of it, and every task that waits for a key when
it changes is woken. The rows have one writer: the owner, or the link that fills the replica.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, ItemsView, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, overload
from weakref import ref

from pgshapes.waiting.notice import Notice

K = TypeVar("K")
V = TypeVar("V")

Watcher = Callable[[V | None], None]
"""Called with each new row of a key in order, None for a removal. Must not raise."""


class TableReader(Generic[K, V]):
    """Rows by key, and notices of changes. Without `has_notices` no task is woken, so callers must poll."""

    def __init__(self, *, has_notices: bool = True) -> None:
        self.version = 0
        """Grows with every change of the rows, before anyone is notified of it."""
        self._set_rows({})
        self._has_notices = has_notices
        self._notices: dict[K, ref[Notice]] = {}
        self._watchers: dict[K, list[Watcher[V]]] = {}

    def _set_rows(self, rows: dict[K, V]) -> None:
        self._rows = rows
        self.get: Callable[[K], V | None] = rows.get
        """The row of a key, None without one. The method of the dictionary itself: a request calls it six
        times. It must not be kept: a replica has another dictionary after `replace`.
        """

    def __getitem__(self, key: K) -> V:
        return self._rows[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def items(self) -> ItemsView[K, V]:
        """All rows as a live view, valid until the next await."""
        return self._rows.items()

    def changed(self, key: K) -> Awaitable[None]:
        """Done at the next change or removal of `key` after this call, or when a replica is replaced whole.

        Callers that ask for the same key share one object, which several tasks may await, or none.
        """
        known = self._notices.get(key)
        notice = None if known is None else known()
        if notice is None:
            notice = Notice()
            self._notices[key] = ref(notice, partial(self._drop_notice, key))
        return notice

    def awaited(self) -> Iterable[K]:
        """The keys for whose next change something waits now."""
        return tuple(self._notices)

    def _drop_notice(self, key: K, dropped: ref[Notice]) -> None:
        """Remove a notice that is no longer referenced."""
        if self._notices.get(key) is dropped:
            del self._notices[key]

    def watch(self, key: K, watcher: Watcher[V]) -> Callable[[], None]:
        """Call `watcher` with every new row of `key`, also one that is replaced in the same loop turn.

        When a replica is replaced whole it gets the new row. Returns a function that ends the watch.
        """
        self._watchers.setdefault(key, []).append(watcher)

        def unwatch() -> None:
            watchers = self._watchers.get(key, [])
            if watcher in watchers:
                watchers.remove(watcher)
            if not watchers:
                self._watchers.pop(key, None)

        return unwatch

    def announce(self, key: K, row: V | None) -> None:
        """Call the watchers of `key` and wake the tasks that wait for it. For the writer of the rows only."""
        if not self._has_notices:
            return
        watchers = self._watchers.get(key)
        if watchers is not None:
            for watcher in tuple(watchers):
                watcher(row)
        asked = self._notices.pop(key, None)
        notice = None if asked is None else asked()
        if notice is not None:
            notice.give()


class Recorder(Protocol):
    """Receives the owner's changes, announces them and sends them to the links."""

    def record(self, table: Table[Any, Any], key: Any, row: Any) -> None:
        """Record that `key` now has `row`, None if it was removed."""


class Table(TableReader[K, V]):
    """The owner's side of a table. Every change is recorded, for waiters here and for the links."""

    def __init__(self, name: str, recorder: Recorder, *, has_notices: bool = True) -> None:
        super().__init__(has_notices=has_notices)
        self.name = name
        self._recorder = recorder

    def put(self, key: K, row: V) -> None:
        """Set the row of `key`."""
        self._rows[key] = row
        self.version += 1
        self._recorder.record(self, key, row)

    def remove(self, key: K) -> V | None:
        """Remove the row of `key` and return it. Without a row nothing changes."""
        row = self._rows.pop(key, None)
        if row is not None:
            self.version += 1
            self._recorder.record(self, key, None)
        return row


class TableReplica(TableReader[K, V]):
    """The copy in another process, written by its link only."""

    def apply(self, changes: Iterable[tuple[K, V | None]]) -> None:
        """Apply changes in order without announcing them."""
        self.version += 1
        apply_changes(self._rows, changes)

    def replace(self, rows: dict[K, V]) -> None:
        """Replace all rows without announcing it."""
        self.version += 1
        self._set_rows(rows)

    def announce_all(self) -> None:
        """Announce every key that is watched or waited for: any of them may have changed."""
        for key in set(self._watchers) | set(self._notices):
            self.announce(key, self._rows.get(key))


def apply_changes(rows: dict[K, V], changes: Iterable[tuple[K, V | None]]) -> None:
    """Put or, for None, remove each row, in order."""
    for key, row in changes:
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row


class WritesTables(Protocol):
    """The owner's side of all tables, recognised by its transactions."""

    def transaction(self) -> AbstractContextManager[None]:
        """Changes made inside become visible together."""


class TableOf(Generic[K, V]):
    """Declares a table in a class body: its name, and the types of its keys and rows.

    The attribute is a `Table` where tables are written and a `TableReader` elsewhere. Instances hold their
    tables in `__dict__`, which precedes a descriptor without `__set__`: reading one calls nothing here.
    """

    def __init__(self, key_type: type[K], row_type: type[V]) -> None:
        self.key_type: Any = key_type
        self.row_type: Any = row_type
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: WritesTables, owner: type) -> Table[K, V]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> TableReader[K, V]: ...
    def __get__(self, instance: object, owner: type) -> TableReader[K, V]:
        raise AttributeError(f"{owner.__name__} has not set its table {self._name}")
