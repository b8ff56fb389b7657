"""An announcement is compared with the system catalogs when its transaction is visible, if that is soon."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import pytest
from tests.support.seams.routing_samples import ITEMS, announcement, live, new_router

from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner import change_path
from pgshapes.owner.change_path import ChangePath
from pgshapes.routing.assembler import RelationAnnounced

XID = 20
BEFORE, AFTER = SnapshotVisibility(10, 20, (), 0), SnapshotVisibility(30, 30, (), 0)
"""Snapshots that do not see the transaction, and that see it."""


class Catalogs:
    """The inspector and the watch: whether the transaction was visible at each look."""

    def __init__(self) -> None:
        self.seen = AFTER
        self.checks: list[bool] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def visibility(self) -> SnapshotVisibility:
        """As the inspector does."""
        return self.seen

    async def check(self, oids: Collection[int]) -> None:
        """As the watch does."""
        assert set(oids) == {ITEMS.oid}
        self.checks.append(self.seen.sees_xid(XID))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As the owner does."""
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]


async def compare(catalogs: Catalogs) -> None:
    router = new_router()
    given: Any = catalogs
    unused: Any = None
    live(router, "h")
    path = ChangePath(
        router, unused, unused, given, given,
        spawn=catalogs.spawn, on_identity_lost=unused, on_progress=unused, reconnect=unused,
    )  # fmt: skip
    await path._check_relations([RelationAnnounced(announcement(ITEMS), XID, 100)])


async def test_a_visible_transaction_is_compared_once() -> None:
    catalogs = Catalogs()
    await compare(catalogs)
    assert (catalogs.checks, catalogs.tasks) == ([True], [])


async def test_a_transaction_that_is_visible_later_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_path, "_VISIBLE_TIMEOUT_S", 0.0)
    catalogs = Catalogs()
    catalogs.seen = BEFORE
    await compare(catalogs)
    assert catalogs.checks == [False], "changes are not held back"
    catalogs.seen = AFTER
    await asyncio.gather(*catalogs.tasks)
    assert catalogs.checks == [False, True]
