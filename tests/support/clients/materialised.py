"""A shape as a strict client sees it: every message must fit what came before, or the test fails.

The published clients ignore an insert of an existing row and a delete of a missing one, so they would not
notice a lost or repeated change. Messages are kept by transaction, so that the rows can be
computed as of any snapshot of Postgres: the shape's own snapshot plus the logged transactions that the other
snapshot sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.support.clients.plain_client import Client

from pgshapes.model.offset import BEFORE_ALL, Offset, parse_offset
from pgshapes.model.visibility import SnapshotVisibility

Row = dict[str, str | None]


class Refetch(Exception):
    """The server answered 409."""


@dataclass
class Materialised:
    """The rows of one handle, from its first response on."""

    shape_url: str
    params: dict[str, str]
    handle: str | None = None
    offset: Offset = BEFORE_ALL
    rows: dict[str, Row] = field(default_factory=dict)
    snapshot_rows: dict[str, Row] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    is_up_to_date: bool = False
    seen_lsn: int = 0
    responses: int = 0

    def request(self, client: Client, *, live: bool = False) -> httpx.Response:
        """One request at the present offset, with its messages applied."""
        params = self.params | {"offset": str(self.offset)}
        if self.handle is not None:
            params["handle"] = self.handle
        if live:
            params["live"] = "true"
        return self.take(client.get(self.shape_url, params=params, timeout=60))

    def take(self, response: httpx.Response) -> httpx.Response:
        """Apply a response. Raises Refetch on 409 and AssertionError when a message does not fit."""
        if response.status_code == 409:
            raise Refetch(response.headers.get("electric-handle"))
        assert response.status_code == 200, f"{response.status_code}: {response.text[:500]}"
        handle, offset = (
            response.headers["electric-handle"],
            parse_offset(response.headers["electric-offset"]),
        )
        assert self.handle in (None, handle), "the handle changed without a 409"
        assert offset >= self.offset, f"the offset went back from {self.offset} to {offset}"
        self.handle, previous, self.offset = handle, self.offset, offset
        self.responses += 1
        self.is_up_to_date = False
        for message in response.json():
            self._apply(message, previous)
        return response

    def catch_up(self, client: Client) -> None:
        """Request until up to date."""
        while True:
            self.request(client)
            if self.is_up_to_date:
                return

    def follow_until(self, client: Client, lsn: int) -> None:
        """Request, live when at the tail, until everything committed before `lsn` has been received."""
        while not self.is_up_to_date or self.seen_lsn < lsn:
            self.request(client, live=self.is_up_to_date)

    def rows_as_of(self, visibility: SnapshotVisibility) -> dict[str, Row]:
        """The rows that a snapshot sees, which must be later than the shape's own."""
        rows = {key: dict(row) for key, row in self.snapshot_rows.items()}
        for message in self.log:
            if visibility.sees_xid(message["headers"]["txids"][-1]):
                apply_change(rows, message)
        return rows

    def _apply(self, message: dict[str, Any], previous: Offset) -> None:
        headers = message["headers"]
        if headers.get("control") == "up-to-date":
            self.is_up_to_date = True
            self.seen_lsn = max(self.seen_lsn, int(headers["global_last_seen_lsn"]))
            return
        if "control" in headers:
            return
        apply_change(self.rows, message)
        if "lsn" not in headers:
            apply_change(self.snapshot_rows, message)
            return
        place = Offset(int(headers["lsn"]), headers["op_position"])
        assert previous < place <= self.offset, f"{place} is not between {previous} and {self.offset}"
        if self.log:
            last = self.log[-1]["headers"]
            assert place > (int(last["lsn"]), last["op_position"]), "sent twice, or out of order"
        self.log.append(message)


def apply_change(rows: dict[str, Row], message: dict[str, Any]) -> None:
    """Apply one change message; it must fit."""
    key, operation = message["key"], message["headers"]["operation"]
    if operation == "insert":
        assert key not in rows, f"inserted twice: {message}"
        rows[key] = dict(message["value"])
    elif operation == "update":
        assert key in rows, f"updated but not there: {message}"
        rows[key].update(message["value"])
    else:
        assert key in rows, f"deleted but not there: {message}"
        del rows[key]
