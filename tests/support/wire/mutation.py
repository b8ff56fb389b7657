"""Damages messages of the replication stream, one by one and in their order. Drawn from a seed.

What names the bystander is only left out, repeated or moved: what becomes of it is then known exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.support.wire.envelopes import (
    PAYLOAD,
    keepalive,
    lsn_of,
    number_at,
    oid_of,
    payload_of,
    truncated,
    with_number,
    xlog_data,
)
from tests.support.wire.recording import Recording

_LENGTHS: Final = (0, 1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 2)
_LSNS: Final = (0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_INVALID: Final = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b"\xf4\x90\x80\x80", b"\xe2\x82")


class Sent(NamedTuple):
    """A message, and how it was mutated; nothing if it is as Postgres sent it."""

    envelope: bytes
    mutation: str = ""


def _announced(envelopes: list[bytes]) -> list[tuple[int, int]]:
    """The announcements: their places, and the relations."""
    payloads = enumerate(map(payload_of, envelopes))
    return [(place, oid_of(payload)) for place, payload in payloads if payload[:1] == b"R"]


class Mutation:
    """Makes mutations. `oid` is the bystander's."""

    def __init__(self, recording: Recording, chance: random.Random) -> None:
        self._chance = chance
        self._oid = recording.relations["bystander"].oid
        self._foreign = recording.foreign
        self._oids = [oid for oid in recording.announcements if oid != self._oid]
        self._present = self._oids
        """The relations that are announced before the message that is mutated."""
        whole = (self._in_order, self._foreign_message, self._keepalive, self._head)
        self._of_stream: tuple[Callable[[list[Sent], int], None], ...] = whole
        self._of_message: dict[str, Callable[[bytes], bytes]] = {
            "bits": self._bits,
            "cut": self._cut,
            "added": self._added,
            "number": self._number,
            "length": self._length,
            "count": self._count,
            "relation": self._relation,
            "letter": self._letter,
            "text": self._text,
            "repeated part": self._repeated,
            "kind": self._kind,
        }

    def mutated(self, envelopes: list[bytes], per_message: float) -> list[Sent]:
        """The messages with mutations, at least one."""
        chance = self._chance
        sent = [Sent(envelope) for envelope in envelopes]
        announced = [one for one in _announced(envelopes) if one[1] != self._oid]
        for _ in range(max(1, round(len(sent) * per_message * chance.uniform(0.5, 1.5)))):
            place = chance.randrange(len(sent))
            self._present = [oid for at, oid in announced if at < place] or self._oids
            sent[place] = self._damaged(sent[place])
        if chance.random() < 0.4:
            chance.choice(self._of_stream)(sent, self._late_place(len(sent)))
        return sent

    def _late_place(self, count: int) -> int:
        """Mostly near the end: much of what happens to the stream ends it."""
        return max(self._chance.randrange(count), self._chance.randrange(count))

    def _is_protected(self, envelope: bytes) -> bool:
        """Whether a message names the bystander."""
        payload = payload_of(envelope)
        oids = truncated(payload) if payload[:1] == b"T" else (oid_of(payload),)
        return payload[:1] in (b"I", b"U", b"D", b"R", b"T") and self._oid in oids

    def _damaged(self, sent: Sent) -> Sent:
        """One message with other bytes; transactions are mostly left whole, so that much is tried in each."""
        envelope, payload = sent.envelope, payload_of(sent.envelope)
        is_rare = payload[:1] not in (b"I", b"U", b"D", b"R")
        if not payload or self._is_protected(envelope) or (is_rare and self._chance.random() < 0.98):
            return sent
        name = self._chance.choice(tuple(self._of_message))
        if name == "relation" and payload[:1] == b"R" and self._chance.random() < 0.95:
            name = "number"
        if name == "kind" and self._chance.random() < 0.95:
            name = "bits"
        other = envelope[:PAYLOAD] + self._of_message[name](payload)
        return sent if self._is_protected(other) or other == envelope else Sent(other, name)

    # --- of one message

    def _place(self, payload: bytes, least: int = 5) -> int:
        """A position, mostly after the name of the relation."""
        first = least if self._chance.random() < 0.997 else 0
        return self._chance.randrange(min(first, len(payload) - 1), len(payload))

    def _bits(self, payload: bytes) -> bytes:
        found = bytearray(payload)
        for _ in range(self._chance.choice((1, 1, 1, 2, 8))):
            found[self._place(payload)] ^= 1 << self._chance.randrange(8)
        return bytes(found)

    def _cut(self, payload: bytes) -> bytes:
        return payload[: self._place(payload)]

    def _added(self, payload: bytes) -> bytes:
        place = self._chance.choice((self._place(payload), len(payload)))
        more = self._chance.randbytes(self._chance.choice((1, 2, 4, 40)))
        return payload[:place] + more + payload[place:]

    def _number(self, payload: bytes) -> bytes:
        width = self._chance.choice((1, 2, 4, 8))
        place = self._place(payload)
        value = number_at(payload, place, width) + self._chance.choice((-1, 1, -256, 256, 2**31, 2**63))
        return with_number(payload, place, width, value)[: max(len(payload), 1)]

    def _length(self, payload: bytes) -> bytes:
        """A length of a value, which follows the letter t."""
        place = payload.find(b"t", self._place(payload))
        if place < 0:
            return payload
        near = number_at(payload, place + 1, 4) + self._chance.choice((-1, 1))
        return with_number(payload, place + 1, 4, self._chance.choice((*_LENGTHS, near, near)))

    def _count(self, payload: bytes) -> bytes:
        """The number of columns, or of relations."""
        if payload[:1] == b"T":
            return with_number(payload, 1, 4, self._chance.choice(_LENGTHS))
        place = 6 if payload[:1] != b"R" else payload.find(b"\0", payload.find(b"\0", 5) + 1) + 2
        near = number_at(payload, place, 2) + self._chance.choice((-1, 1))
        value = self._chance.choice((near, near, 0, 1, 1601, 65_535))
        return with_number(payload, place, 2, value)

    def _relation(self, payload: bytes) -> bytes:
        """The oid of another relation, or of none."""
        if self._chance.random() < 0.98:
            return with_number(payload, 1, 4, self._chance.choice(self._present))
        return with_number(payload, 1, 4, self._chance.choice((*self._oids, 0, 2**32 - 1)))

    def _letter(self, payload: bytes) -> bytes:
        """Another kind of row, or of value."""
        places = [n for n, one in enumerate(payload) if one in b"NKOtnu" and n > 4]
        if not places:
            return payload
        place = self._chance.choice((places[0], self._chance.choice(places)))
        return with_number(payload, place, 1, self._chance.choice(b"NKOtnub\0x"))

    def _text(self, payload: bytes) -> bytes:
        """Bytes that are no UTF-8, in place of others."""
        place, raw = self._place(payload), self._chance.choice(_INVALID)
        return payload[:place] + raw + payload[place + len(raw) :]

    def _repeated(self, payload: bytes) -> bytes:
        place = self._place(payload)
        part = payload[place : place + self._chance.choice((1, 5, 50))]
        return payload[:place] + part * self._chance.choice((2, 3, 200)) + payload[place + len(part) :]

    def _kind(self, payload: bytes) -> bytes:
        letters = b"BCORYIUDTMSEcAbPKrp\0\xff"
        return bytes([self._chance.choice(letters)]) + payload[1:]

    # --- of the stream

    def _in_order(self, sent: list[Sent], place: int) -> None:
        """A message too many, too few, or at another place."""
        one = sent[place]
        what = self._chance.choice(("left out", "repeated", "moved", "swapped"))
        if what in ("left out", "moved") and len(sent) > 1:
            del sent[place]
        if what == "repeated":
            sent.insert(place, Sent(one.envelope, what))
        elif what == "moved":
            sent.insert(self._chance.randrange(len(sent) + 1), Sent(one.envelope, what))
        elif what == "swapped" and place:
            sent[place - 1], sent[place] = Sent(one.envelope, what), Sent(sent[place - 1].envelope, what)
        elif what == "left out":
            place = min(place, len(sent) - 1)
            sent[place] = Sent(sent[place].envelope, "after one left out")

    def _foreign_message(self, sent: list[Sent], place: int) -> None:
        other = self._chance.choice(self._foreign)
        if not self._is_protected(other):
            sent.insert(place, Sent(other, "of a later version"))

    def _keepalive(self, sent: list[Sent], place: int) -> None:
        near = lsn_of(sent[place].envelope)
        raw = keepalive(near, wants_reply=self._chance.random() < 0.5)
        if self._chance.random() < 0.5:
            raw = self._chance.choice((raw[:-1], raw + b"\0", raw[:1], with_number(raw, 0, 1, 0x78)))
            sent.insert(place, Sent(raw, "keepalive"))
        else:
            sent.insert(place, Sent(raw, "keepalive"))

    def _head(self, sent: list[Sent], place: int) -> None:
        """The head of XLogData."""
        envelope = sent[place].envelope
        what = self._chance.randrange(4)
        if what == 0:
            sent[place] = Sent(envelope[: self._chance.randrange(1, PAYLOAD + 1)], "head cut")
        elif what == 1:
            sent[place] = Sent(with_number(envelope, 1, 8, self._chance.choice(_LSNS)), "head LSN")
        elif what == 2 and not self._is_protected(envelope) and payload_of(envelope):
            sent[place] = Sent(xlog_data(payload_of(envelope), lsn_of(envelope) + 2**40), "head LSN")
        else:
            sent[place] = Sent(with_number(envelope, 0, 1, self._chance.randrange(256)), "head kind")
