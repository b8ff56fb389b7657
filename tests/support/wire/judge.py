"""What must become of messages of the stream, read from their bytes alone. Pure.

Knows which transactions are whole, what they change in the bystander table, and which position the messages
allow to be acknowledged.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from tests.support.wire.envelopes import lsn_of, number_at, oid_of, payload_of, truncated
from tests.support.wire.recording import Recording

_KINDS: Final = b"BCORYIUDTM"
_OPERATIONS: Final = {b"I": "insert", b"U": "update", b"D": "delete"}


class Entry(NamedTuple):
    """A message in the log of a shape, without its values."""

    lsn: int
    operation: str
    id: str


class Judge:
    """The stream as it was sent so far, over several connections."""

    def __init__(self, recording: Recording, start_lsn: int) -> None:
        self._bystander = recording.relations["bystander"].oid
        self._open: int | None = None
        self._entries: list[Entry] = []
        self._announced: set[int] = set()
        self._last_lsn = 0
        self._delivered_lsn = 0
        self.claimed = start_lsn
        """What may be acknowledged at most."""
        self.committed: set[int] = set()
        """The positions of the transactions that are whole."""
        self.expected: list[Entry] = []
        """The log of a shape on the whole bystander table."""
        self.rule = ""
        """The rule that the last message broke, for which the stream has to end."""

    def connected(self) -> None:
        """A new connection: what was not complete is sent again."""
        self._open, self._entries, self._last_lsn, self.rule = None, [], 0, ""
        self._announced.clear()

    def take(self, envelope: bytes) -> str:
        """Note what was sent; returns the rule that it breaks, if any."""
        if envelope[:1] == b"k":
            return self._keepalive(envelope)
        payload = payload_of(envelope)
        kind = payload[:1]
        if not payload:
            return "no message"
        if kind not in _KINDS:
            return "unknown kind"
        if kind == b"B":
            return self._begin(payload)
        if kind == b"C":
            return self._commit(payload, envelope)
        return self._change(kind, payload)

    def _keepalive(self, envelope: bytes) -> str:
        if len(envelope) != 18:
            return "length of a keepalive"
        if self._open is None:
            self.claimed = max(self.claimed, lsn_of(envelope))
        return ""

    def _begin(self, payload: bytes) -> str:
        lsn = number_at(payload, 1, 8)
        if len(payload) != 21:
            return "length of BEGIN"
        if self._open is not None:
            return "BEGIN in a transaction"
        if lsn <= self._last_lsn:
            return "transactions out of order"
        self._open, self._entries = lsn, []
        return ""

    def _commit(self, payload: bytes, envelope: bytes) -> str:
        lsn, end_lsn = number_at(payload, 2, 8), number_at(payload, 10, 8)
        if len(payload) != 26:
            return "length of COMMIT"
        if self._open is None:
            return "COMMIT outside of a transaction"
        if lsn != self._open:
            return "COMMIT of another transaction"
        if not lsn < end_lsn <= lsn_of(envelope):
            return "end of a transaction"
        self._open, self._last_lsn = None, lsn
        self.claimed = max(self.claimed, end_lsn)
        if lsn > self._delivered_lsn:
            self._delivered_lsn = lsn
            self.committed.add(lsn)
            self.expected += self._entries
        return ""

    def _change(self, kind: bytes, payload: bytes) -> str:
        if kind in b"OYM":
            return ""
        if kind != b"T" and len(payload) < 5:
            return "no relation"
        if self._open is None:
            return "change outside of a transaction"
        if kind == b"R":
            self._announced.add(oid_of(payload))
            return ""
        oids = truncated(payload) if kind == b"T" else (oid_of(payload),)
        if not self._announced.issuperset(oids):
            return "relation that was not announced"
        if kind != b"T" and oids[0] == self._bystander:
            self._entries += _changed(self._open, kind, payload)
        return ""


def _changed(lsn: int, kind: bytes, payload: bytes) -> list[Entry]:
    """A change of the bystander, whose first column is its key."""
    row = 6 if kind != b"U" else payload.find(b"N", _end_of_row(payload, 6)) + 1
    length = number_at(payload, row + 3, 4)
    key = payload[row + 7 : row + 7 + length].decode()
    return [Entry(lsn, _OPERATIONS[kind], key)]


def _end_of_row(payload: bytes, position: int) -> int:
    count, position = number_at(payload, position, 2), position + 2
    for _ in range(count):
        is_text = payload[position : position + 1] == b"t"
        position += 5 + number_at(payload, position + 1, 4) if is_text else 1
    return position


def read_log(text: str, committed: set[int]) -> tuple[list[Entry], str]:
    """The messages of a log, and what is wrong with them as such: an order, or a half transaction."""
    entries: list[Entry] = []
    last, is_ended = (0, -1), True
    for message in json.loads(f"[{text}]"):
        headers: dict[str, Any] = message["headers"]
        at = (int(headers["lsn"]), int(headers["op_position"]))
        if at <= last:
            return entries, f"{at} after {last}"
        if at[0] != last[0] and not is_ended:
            return entries, f"transaction {last[0]} has no end"
        if at[0] == last[0] and is_ended:
            return entries, f"transaction {at[0]} goes on after its end"
        if at[0] not in committed:
            return entries, f"transaction {at[0]} was not committed"
        last, is_ended = at, headers.get("last", False)
        entries.append(Entry(at[0], headers["operation"], str(message["value"].get("id"))))
    return entries, "" if is_ended else f"transaction {last[0]} has no end"
