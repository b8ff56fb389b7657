"""Transactions that the stream has delivered and that snapshots may not see yet.

The walsender sends a transaction after its flush; it becomes visible to snapshots later, with a synchronous
standby much later. A snapshot that belongs to a shape registered after such a delivery must see it, or it is
thrown away. Pure; owned by the replicator's one loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from pgshapes.model.lsn import Lsn
from pgshapes.model.visibility import SnapshotVisibility


class DeliveredTransaction(NamedTuple):
    """A transaction that has been handed to routing."""

    xid: int
    commit_lsn: Lsn


class DeliveredTransactions:
    """Remembers deliveries until a snapshot has seen them."""

    def __init__(self, remembered: Iterable[DeliveredTransaction] = ()) -> None:
        self._unseen: list[DeliveredTransaction] = sorted(remembered, key=lambda one: one.commit_lsn)
        self.last_commit_lsn: Lsn = self._unseen[-1].commit_lsn if self._unseen else 0

    def __len__(self) -> int:
        return len(self._unseen)

    def add(self, xid: int, commit_lsn: Lsn) -> None:
        """Note a delivery; its first fragment is enough. Repeats, after a reconnect, are not noted again."""
        if commit_lsn <= self.last_commit_lsn:
            return
        self._unseen.append(DeliveredTransaction(xid, commit_lsn))
        self.last_commit_lsn = commit_lsn

    def prune(self, visibility: SnapshotVisibility) -> None:
        """Forget what a snapshot sees: every later snapshot sees it too."""
        self._unseen = [one for one in self._unseen if not visibility.sees_xid(one.xid)]

    def missing_from(
        self, visibility: SnapshotVisibility, until: Lsn, before: Iterable[DeliveredTransaction] = ()
    ) -> DeliveredTransaction | None:
        """A transaction committed at or before `until` that was delivered and that the snapshot does not
        see.

        `before` is what was unseen before the snapshot was asked for: since then a younger snapshot may have
        seen it, and it is forgotten here, while this one does not have it.
        """
        for one in chain(before, self._unseen):
            if one.commit_lsn <= until and not visibility.sees_xid(one.xid):
                return one
        return None

    def unseen(self) -> tuple[DeliveredTransaction, ...]:
        """What is still remembered, to be stored beside the recorded LSN."""
        return tuple(self._unseen)
