"""Which transactions a snapshot sees (manual: System Information Functions, `pg_snapshot`).

Transaction ids of pgoutput are 32 bits wide, those of `pg_current_snapshot()` 64; everything here compares
modulo 2^32.
"""

from __future__ import annotations

from typing import NamedTuple

from pgshapes.model.lsn import Lsn

_MODULUS = 2**32
_HALF = 2**31


def xid_precedes(left: int, right: int) -> bool:
    """Whether xid `left` was assigned before `right`, both taken modulo 2^32 (as `TransactionIdPrecedes`)."""
    return (left - right) % _MODULUS >= _HALF


class SnapshotVisibility(NamedTuple):
    """`pg_current_snapshot()` and the WAL insert position right after it."""

    xmin: int
    xmax: int
    xip: tuple[int, ...]
    insert_lsn: Lsn

    def sees_xid(self, xid: int) -> bool:
        """Whether the snapshot contains the effects of transaction `xid`, given that it committed."""
        if xid_precedes(xid, self.xmin):
            return True
        if not xid_precedes(xid, self.xmax):
            return False
        return all((xid - running) % _MODULUS for running in self.xip)

    def contains(self, xid: int, commit_lsn: Lsn) -> bool:
        """Whether a transaction's changes are already in the snapshot's rows.

        A commit record after `insert_lsn` cannot have been visible; before it, visibility decides, xid by
        xid.
        """
        return commit_lsn <= self.insert_lsn and self.sees_xid(xid)
