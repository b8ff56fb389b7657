"""Which delivered transactions a snapshot must see, and when they are pruned."""

from __future__ import annotations

from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.delivered import DeliveredTransaction, DeliveredTransactions


def snapshot(xmax: int, *running: int) -> SnapshotVisibility:
    """A snapshot that sees every xid below `xmax` except the running ones."""
    return SnapshotVisibility(min(running, default=xmax), xmax, running, 10_000)


def test_a_delivered_transaction_that_a_snapshot_does_not_see_is_missing_from_it() -> None:
    delivered = DeliveredTransactions()
    delivered.add(7, 100)
    assert delivered.missing_from(snapshot(9, 7), 100) == DeliveredTransaction(7, 100)
    assert delivered.missing_from(snapshot(9), 100) is None


def test_one_that_was_delivered_after_the_registration_is_not_missing() -> None:
    delivered = DeliveredTransactions()
    delivered.add(7, 100)
    assert delivered.missing_from(snapshot(9, 7), 99) is None


def test_one_that_a_younger_snapshot_has_seen_is_still_missing_from_an_older_one() -> None:
    """The older snapshot is checked last: without the copy the transaction would be missed."""
    delivered = DeliveredTransactions()
    delivered.add(7, 100)
    before = delivered.unseen()
    older, younger = snapshot(9, 7), snapshot(9)
    delivered.prune(younger)
    assert delivered.missing_from(older, 100) is None
    assert delivered.missing_from(older, 100, before) == DeliveredTransaction(7, 100)


def test_only_visible_transactions_are_pruned() -> None:
    delivered = DeliveredTransactions()
    for xid, lsn in ((7, 100), (8, 200), (9, 300)):
        delivered.add(xid, lsn)
    delivered.prune(snapshot(10, 8))
    assert delivered.unseen() == (DeliveredTransaction(8, 200),)
    assert delivered.last_commit_lsn == 300


def test_a_repeated_transaction_is_added_once() -> None:
    delivered = DeliveredTransactions([DeliveredTransaction(7, 100)])
    delivered.add(7, 100)
    delivered.add(6, 50)
    assert delivered.unseen() == (DeliveredTransaction(7, 100),)
