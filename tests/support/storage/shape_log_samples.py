"""Transactions to append, and functions that read a whole log, for tests of the shape log."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby

from tests.support.storage.reading import Reading

from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import Entry, LogSlice, ShapeLog

Transaction = list[Entry]


def make_handle(number: int) -> str:
    return f"{number:032x}"


def make_transactions(
    seed: int, count: int, *, first_tx: int = 100, max_size: int = 200
) -> list[Transaction]:
    """Transactions with increasing offsets and unique messages."""
    chance = random.Random(seed)
    transactions, tx = [], first_tx
    for _ in range(count):
        tx += chance.randint(1, 5)
        ops = sorted(chance.sample(range(40), chance.choice((1, 1, 1, 2, 3, 8))))
        transactions.append([Entry(Offset(tx, op), _message(chance, tx, op, max_size)) for op in ops])
    return transactions


def _message(chance: random.Random, tx: int, op: int, max_size: int) -> bytes:
    return b'{"at":"%d_%d","x":"%s"}' % (tx, op, b"x" * chance.randint(0, max_size))


def append_whole(log: ShapeLog, transactions: Sequence[Transaction]) -> None:
    for transaction in transactions:
        log.append(transaction, ends_transaction=True)


def append_in_pieces(log: ShapeLog, transactions: Sequence[Transaction], seed: int) -> None:
    """Append the transactions in random fragments; sometimes the end is separate."""
    chance = random.Random(seed)
    for transaction in transactions:
        cuts = sorted(chance.randint(0, len(transaction)) for _ in range(2))
        pieces = [transaction[: cuts[0]], transaction[cuts[0] : cuts[1]], transaction[cuts[1] :]]
        for number, piece in enumerate(pieces):
            log.append(piece, ends_transaction=number == 2)


def entries_of(transactions: Sequence[Transaction]) -> list[Entry]:
    return [entry for transaction in transactions for entry in transaction]


def group_by_transaction(entries: Sequence[Entry]) -> list[Transaction]:
    return [list(group) for _, group in groupby(entries, key=lambda entry: entry.offset.tx)]


def walk(reader: Reading, handle: str, after: Offset, tail: Tail) -> list[LogSlice]:
    """All slices that a client gets from `after` on, following `end` to the tail."""
    slices: list[LogSlice] = []
    while after < tail.latest:
        found = reader.read_log(handle, after, tail)
        assert found.end > after, "a reader that follows `end` gets on"
        slices.append(found)
        after = found.end
        if not tail.position:
            break
    return slices


def bodies(slices: Sequence[LogSlice]) -> bytes:
    """The bodies joined with commas."""
    return b",".join(piece.body for piece in slices if piece.body)
