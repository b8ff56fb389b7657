"""The committed changes of one table, read from a slot of the test: the reference for shape logs.

It includes each transaction's commit LSN, so that the rows at any LSN and the expected messages of a shape
can be computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import psycopg
from tests.support.clients.materialised import Row, apply_change
from tests.support.postgres.replicated import prepare, replicated

from pgshapes.model.change import Change, Operation

Message = dict[str, Any]
Accepts = Callable[[Row], bool]


class Committed(NamedTuple):
    """A change, with its transaction's xid and commit LSN."""

    lsn: int
    xid: int
    change: Change


class Definition(NamedTuple):
    """A shape's definition as a client asks for it, and its clause as a function."""

    params: dict[str, str]
    accepts: Accepts
    is_full: bool = False


class History:
    """All changes of a table `(id, …)` since it was empty, in commit order."""

    def __init__(self, table: str, columns: tuple[str, ...], changes: list[Committed]) -> None:
        self._table = table
        self._columns = columns
        self.changes = changes

    def messages(self, definition: Definition) -> list[Message]:
        """The expected messages, without `last`, of a shape that was created while the table was empty."""
        return [message for committed in self.changes for message in self._messages(committed, definition)]

    def rows_at(self, definition: Definition, lsns: Iterable[int]) -> Iterator[dict[str, Row]]:
        """The shape's rows at each of the ascending LSNs."""
        rows: dict[str, Row] = {}
        messages = deque(self.messages(definition))
        for lsn in lsns:
            while messages and int(messages[0]["headers"]["lsn"]) <= lsn:
                apply_change(rows, messages.popleft())
            yield rows

    def _messages(self, committed: Committed, definition: Definition) -> list[Message]:
        old, new = self._row(committed.change.old), self._row(committed.change.new)
        was = old is not None and definition.accepts(old)
        is_in = new is not None and definition.accepts(new)
        op = committed.change.op
        if was and is_in:
            assert old is not None and new is not None
            return self._update(committed, definition, old, new)
        if was:
            assert old is not None
            return [self._message(committed, op, "delete", old, self._gone(definition, old))]
        if is_in:
            assert new is not None
            return [self._message(committed, op, "insert", new, new)]
        return []

    def _update(self, committed: Committed, definition: Definition, old: Row, new: Row) -> list[Message]:
        op = committed.change.op
        if old["id"] != new["id"]:
            gone = self._message(committed, op, "delete", old, self._gone(definition, old))
            come = self._message(committed, op + 1, "insert", new, new)
            gone["headers"]["key_change_to"] = come["key"]
            come["headers"]["key_change_from"] = gone["key"]
            return [gone, come]
        changed = {name: value for name, value in new.items() if old[name] != value}
        if not changed:
            return []
        if not definition.is_full:
            return [self._message(committed, op, "update", new, {"id": new["id"], **changed})]
        message = self._message(committed, op, "update", new, new)
        message["old_value"] = {name: old[name] for name in changed}
        return [message]

    def _gone(self, definition: Definition, old: Row) -> Row:
        return old if definition.is_full else {"id": old["id"]}

    def _message(self, committed: Committed, op: int, operation: str, row: Row, value: Row) -> Message:
        return {
            "key": f'"public"."{self._table}"/"{row["id"]}"',
            "value": value,
            "headers": {
                "operation": operation,
                "relation": ["public", self._table],
                "lsn": str(committed.lsn),
                "op_position": op,
                "txids": [committed.xid],
            },
        }

    def _row(self, values: tuple[str | None, ...] | None) -> Row | None:
        return None if values is None else dict(zip(self._columns, values, strict=True))


def begin_history(sql: psycopg.Connection, table: str) -> str:
    """Start to record the changes of a table; return the slot's name."""
    return prepare(sql, table)


async def read_history(
    url: str, sql: psycopg.Connection, slot: str, table: str, columns: tuple[str, ...]
) -> History:
    """All changes since `begin_history`."""
    async with replicated(url, slot) as collected:
        await collected.until_caught_up(sql)
        changes = [
            Committed(fragment.commit_lsn, fragment.xid, change)
            for fragment in collected.fragments
            for change in fragment.changes
        ]
    assert not [one for one in changes if one.change.operation is Operation.TRUNCATE]
    return History(table, columns, changes)
