"""Renders the changes of one relation for all shapes with the same columns and replica mode. Pure.

A message is rendered once per projection and shared by all its shapes. The format is described in
docs/protocol.md; values are the text that Postgres sent, keys are those of `model.key`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

import orjson

from pgshapes.model.change import Row
from pgshapes.model.key import key_prefix, row_key
from pgshapes.model.offset import Offset
from pgshapes.model.relation import Relation
from pgshapes.shape_log.store import Entry

_CLOSE = b"}}"
_CLOSE_LAST = b',"last":true}}'


class RenderedMessage:
    """One log message without its end, which says whether it is the last of its transaction for a shape."""

    __slots__ = ("_entry", "_last_entry", "_text", "offset")

    def __init__(self, offset: Offset, text: bytes) -> None:
        self.offset = offset
        self._text = text
        self._entry: Entry | None = None
        self._last_entry: Entry | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the message occupies."""
        return len(self._text)

    def entry(self) -> Entry:
        """The log entry when it is not the last of its transaction for a shape."""
        if self._entry is None:
            self._entry = Entry(self.offset, self._text + _CLOSE)
        return self._entry

    def last_entry(self) -> Entry:
        """The log entry when it is the last of its transaction for a shape."""
        if self._last_entry is None:
            self._last_entry = Entry(self.offset, self._text + _CLOSE_LAST)
        return self._last_entry


class Origin(NamedTuple):
    """The transaction of a change, for the message headers."""

    commit_lsn: int
    xid: int


class Projection:
    """The selected columns of a relation, in one replica mode."""

    def __init__(self, relation: Relation, columns: Sequence[str], key: Sequence[str], replica: str) -> None:
        index = relation.column_index
        self.columns = tuple(sorted(columns))
        self._is_full = replica == "full"
        self._selected = tuple(index[name] for name in self.columns)
        self._key = tuple(index[name] for name in key)
        self._pick_selected = _picker(self._selected)
        self._pick_key = _picker(self._key)
        self._key_names = tuple(name for name in self.columns if name in key)
        self._pick_key_values = _picker(tuple(index[name] for name in self._key_names))
        self._prefix = key_prefix(relation.schema, relation.name)
        self._relation = b',"relation":' + orjson.dumps([relation.schema, relation.name])

    def row_key(self, row: Row) -> str:
        """The key of a row as its messages have it."""
        return row_key(self._prefix, self._pick_key(row))

    def insert(self, origin: Origin, op: int, new: Row) -> tuple[RenderedMessage, ...]:
        """The message for a row that was inserted, or now matches the shape's clause."""
        return (self._message(origin, op, "insert", self._key_of(new), self._all(new)),)

    def delete(self, origin: Origin, op: int, old: Row) -> tuple[RenderedMessage, ...]:
        """The message for a row that was deleted, or no longer matches the shape's clause."""
        return (self._message(origin, op, "delete", self._key_of(old), self._deleted_value(old)),)

    def update(self, origin: Origin, op: int, old: Row, new: Row) -> tuple[RenderedMessage, ...]:
        """The messages for a row that matches before and after; none if no selected column changed."""
        if self._pick_key(old) != self._pick_key(new):
            return self._key_change(origin, op, old, new)
        changed = [
            (name, index)
            for name, index in zip(self.columns, self._selected, strict=True)
            if old[index] != new[index]
        ]
        if not changed:
            return ()
        if self._is_full:
            value = self._all(new)
            before = orjson.dumps({name: old[index] for name, index in changed})
            return (self._message(origin, op, "update", self._key_of(new), value, old_value=before),)
        names = {name for name, _ in changed}.union(self._key_names)
        value = orjson.dumps(
            {n: new[i] for n, i in zip(self.columns, self._selected, strict=True) if n in names}
        )
        return (self._message(origin, op, "update", self._key_of(new), value),)

    def _key_change(self, origin: Origin, op: int, old: Row, new: Row) -> tuple[RenderedMessage, ...]:
        old_key, new_key = self._key_of(old), self._key_of(new)
        changed_to = b',"key_change_to":' + new_key
        changed_from = b',"key_change_from":' + old_key
        return (
            self._message(origin, op, "delete", old_key, self._deleted_value(old), extra=changed_to),
            self._message(origin, op + 1, "insert", new_key, self._all(new), extra=changed_from),
        )

    def _message(
        self,
        origin: Origin,
        op: int,
        operation: str,
        key: bytes,
        value: bytes,
        *,
        old_value: bytes | None = None,
        extra: bytes = b"",
    ) -> RenderedMessage:
        before = b"" if old_value is None else b',"old_value":' + old_value
        text = (
            b'{"key":%b,"value":%b%b,"headers":{"operation":"%b"%b,"lsn":"%d","op_position":%d,"txids":[%d]%b'
            % (
                key,
                value,
                before,
                operation.encode(),
                self._relation,
                origin.commit_lsn,
                op,
                origin.xid,
                extra,
            )
        )
        return RenderedMessage(Offset(origin.commit_lsn, op), text)

    def _key_of(self, row: Row) -> bytes:
        return orjson.dumps(row_key(self._prefix, self._pick_key(row)))

    def _all(self, row: Row) -> bytes:
        return orjson.dumps(dict(zip(self.columns, self._pick_selected(row), strict=True)))

    def _deleted_value(self, row: Row) -> bytes:
        if self._is_full:
            return self._all(row)
        return orjson.dumps(dict(zip(self._key_names, self._pick_key_values(row), strict=True)))


def _picker(indexes: tuple[int, ...]) -> Callable[[Row], Row]:
    if len(indexes) == 1:
        only = indexes[0]
        return lambda row: (row[only],)
    return itemgetter(*indexes) if indexes else lambda row: ()
