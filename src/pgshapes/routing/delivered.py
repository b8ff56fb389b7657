"""Transactions that the stream has delivered and that snapshots may not see yet.

The walsender sends a transaction after its WAL is flushed. It becomes visible to snapshots later, with a
synchronous standby much later. The snapshot of a shape that is registered after such a delivery must see the
transaction; otherwise it is discarded. Pure; owned by the replicator's loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from pgshapes.model.lsn import Lsn
from pgshapes.model.visibility import SnapshotVisibility


class DeliveredTransaction(NamedTuple):
    """A transaction that has been routed."""

    xid: int
    commit_lsn: Lsn


class DeliveredTransactions:
    """Remembers delivered transactions until a snapshot has seen them."""

    def __init__(self, remembered: Iterable[DeliveredTransaction] = ()) -> None:
        self._unseen: list[DeliveredTransaction] = sorted(remembered, key=lambda one: one.commit_lsn)
        self.last_commit_lsn: Lsn = self._unseen[-1].commit_lsn if self._unseen else 0

    def __len__(self) -> int:
        return len(self._unseen)

    def add(self, xid: int, commit_lsn: Lsn) -> None:
        """Add a delivered transaction, at its first fragment. Repeats after a reconnect are ignored."""
        if commit_lsn <= self.last_commit_lsn:
            return
        self._unseen.append(DeliveredTransaction(xid, commit_lsn))
        self.last_commit_lsn = commit_lsn

    def prune(self, visibility: SnapshotVisibility) -> None:
        """Remove what a snapshot sees: every later snapshot sees it, too."""
        self._unseen = [one for one in self._unseen if not visibility.sees_xid(one.xid)]

    def missing_from(
        self, visibility: SnapshotVisibility, until: Lsn, before: Iterable[DeliveredTransaction] = ()
    ) -> DeliveredTransaction | None:
        """A delivered transaction, committed at or before `until`, that the snapshot does not see; or None.

        `before` is what was unseen before the snapshot was taken. A newer snapshot may have seen and
        pruned it since, although this snapshot does not see it.
        """
        for one in chain(before, self._unseen):
            if one.commit_lsn <= until and not visibility.sees_xid(one.xid):
                return one
        return None

    def unseen(self) -> tuple[DeliveredTransaction, ...]:
        """The transactions that no snapshot has seen, to be stored with the recorded LSN."""
        return tuple(self._unseen)
