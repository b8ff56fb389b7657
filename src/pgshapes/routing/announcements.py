"""The latest announcement of each relation. Pure; owned by the router.

Postgres announces a relation once in a session, and again after DDL. A shape that is created later reads its
rows by that announcement, so it is kept for relations without shapes, too: until the session ends, or the
relation is known to be dropped and all its changes to be processed. For relations with shapes it is kept over
sessions, to be compared with the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pgshapes.postgres.pgoutput_messages import RelationMessage


class Announcement(NamedTuple):
    """One announcement."""

    message: RelationMessage | None
    """None if it could not be processed."""
    xid: int | None
    """The transaction that had the first row, if that is known."""


class Announcements:
    """The announcements by oid of the relation."""

    def __init__(self) -> None:
        self._latest: dict[int, Announcement] = {}

    def get(self, oid: int) -> Announcement | None:
        """The latest announcement of a relation; None before the first."""
        return self._latest.get(oid)

    def note(self, message: RelationMessage, xid: int | None) -> RelationMessage | None:
        """Note an announcement; returns the message of the previous one."""
        previous = self._latest.get(message.oid)
        self._latest[message.oid] = Announcement(message, xid)
        return None if previous is None else previous.message

    def fail(self, oid: int) -> None:
        """Note that the announcement of a relation could not be processed."""
        self._latest[oid] = Announcement(None, None)

    def keep(self, is_kept: Callable[[int], bool]) -> None:
        """Forget the relations that are not kept."""
        self._latest = {oid: one for oid, one in self._latest.items() if is_kept(oid)}

    def without(self, is_used: Callable[[int], bool]) -> dict[int, Announcement]:
        """Those of relations that are not used."""
        return {oid: one for oid, one in self._latest.items() if not is_used(oid)}

    def forget(self, oid: int, announcement: Announcement) -> None:
        """Forget a relation, unless it was announced again."""
        if self._latest.get(oid) is announcement:
            del self._latest[oid]
