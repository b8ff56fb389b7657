"""A client that loads subsets of a shape on demand, stricter than the published client.

It follows the log (`changes_only`) and loads subset snapshots while it follows. A change that a loaded
snapshot has seen is dropped by the rules of the published client's `SnapshotTracker`, which drops a snapshot
at the first transaction at or above its xmax and at the first LSN past its own. This client also checks that
an inserted row is new, that no change is sent that any snapshot had, dropped or not, and that a snapshot's
rows are not older than the changes that were applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.support.clients.materialised import Refetch, Row

from pgshapes.model.visibility import SnapshotVisibility, xid_precedes


@dataclass
class LoadedSubset:
    """A loaded snapshot: what it saw and which rows it had."""

    seen: SnapshotVisibility
    keys: frozenset[str]


@dataclass
class SubsetClient:
    """The rows that were loaded or inserted, of one handle."""

    shape_url: str
    params: dict[str, str]
    handle: str | None = None
    offset: str = "now"
    rows: dict[str, Row] = field(default_factory=dict)
    is_up_to_date: bool = False
    seen_lsn: int = 0
    dropped: int = 0
    applied: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Key → (xid, commit LSN) of the last change that was applied."""
    _subsets: list[LoadedSubset] = field(default_factory=list)
    _dropped_subsets: list[LoadedSubset] = field(default_factory=list)

    def load(self, client: httpx.Client, **subset: str) -> httpx.Response:
        """Request a subset and apply it."""
        parameters = {f"subset__{name}": value for name, value in subset.items()}
        return self.take_subset(client.get(self.shape_url, params=self._asking() | parameters, timeout=60))

    def take_subset(self, response: httpx.Response) -> httpx.Response:
        """Add a subset's rows to the others. Raises Refetch."""
        self._accept(response)
        metadata, data = response.json()["metadata"], response.json()["data"]
        running = tuple(int(xid) for xid in metadata["xip_list"])
        seen = SnapshotVisibility(
            int(metadata["xmin"]), int(metadata["xmax"]), running, int(metadata["database_lsn"])
        )
        for row in data:
            last_applied = self.applied.get(row["key"])
            assert last_applied is None or seen.contains(*last_applied), (
                f"older than an applied change: {row}"
            )
            self.rows[row["key"]] = dict(row["value"])
        self._subsets.append(LoadedSubset(seen, frozenset(row["key"] for row in data)))
        return response

    def follow(self, client: httpx.Client) -> None:
        """One request for the log."""
        live = {"live": "true"} if self.is_up_to_date else {}
        response = client.get(self.shape_url, params=self._asking() | live, timeout=60)
        self._accept(response)
        self.is_up_to_date = False
        for message in response.json():
            headers = message["headers"]
            if headers.get("control") == "up-to-date":
                self.is_up_to_date = True
                self.seen_lsn = max(self.seen_lsn, int(headers["global_last_seen_lsn"]))
                self._drop(self.seen_lsn)
            elif "operation" in headers:
                self._take_change(message)

    def follow_until(self, client: httpx.Client, lsn: int) -> None:
        """Follow until everything committed before `lsn` was received."""
        while not self.is_up_to_date or self.seen_lsn < lsn:
            self.follow(client)

    def _asking(self) -> dict[str, str]:
        handle = {} if self.handle is None else {"handle": self.handle}
        return self.params | {"log": "changes_only", "offset": self.offset} | handle

    def _accept(self, response: httpx.Response) -> None:
        if response.status_code == 409:
            raise Refetch(response.headers.get("electric-handle"))
        assert response.status_code == 200, f"{response.status_code}: {response.text[:500]}"
        self.handle = response.headers["electric-handle"]
        self.offset = response.headers["electric-offset"]

    def _take_change(self, message: dict[str, Any]) -> None:
        lsn, xid = int(message["headers"]["lsn"]), max(message["headers"]["txids"])
        self._drop(lsn)
        self._drop_below(xid)
        key = message["key"]
        if any(key in one.keys and one.seen.sees_xid(xid) for one in self._subsets):
            self.dropped += 1
            return
        for one in self._dropped_subsets:
            assert key not in one.keys or not one.seen.contains(xid, lsn), f"sent twice: {message}"
        self.applied[key] = (xid, lsn)
        self._apply(key, message)

    def _drop(self, lsn: int) -> None:
        self._drop_if(lambda seen: seen.insert_lsn <= lsn)

    def _drop_below(self, xid: int) -> None:
        self._drop_if(lambda seen: not xid_precedes(xid, seen.xmax))

    def _drop_if(self, is_over: Callable[[SnapshotVisibility], bool]) -> None:
        self._dropped_subsets += [one for one in self._subsets if is_over(one.seen)]
        self._subsets = [one for one in self._subsets if not is_over(one.seen)]

    def _apply(self, key: str, message: dict[str, Any]) -> None:
        operation = message["headers"]["operation"]
        if operation == "insert":
            assert key not in self.rows, f"inserted twice: {message}"
            self.rows[key] = dict(message["value"])
        elif key in self.rows:
            if operation == "update":
                self.rows[key].update(message["value"])
            else:
                del self.rows[key]
