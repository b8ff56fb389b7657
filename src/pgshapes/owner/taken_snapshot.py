"""A snapshot that was taken for one shape, and its retakes (design §7, step 4).

A transaction that was delivered before the shape was registered has to be in the shape's snapshot: nobody
will deliver it again. It may not be visible yet; then the snapshot is thrown away, before its query, and
taken again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Final

from pgshapes.errors import CreationFailed
from pgshapes.model.relation import Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres.snapshot import Snapshot, SnapshotSource

# A transaction is usually visible microseconds after it was delivered; with a synchronous standby that is
# away it may take for ever, and then the creation has to fail rather than wait for ever.
RETAKE_FIRST_S: Final = 0.001
RETAKE_CAP_S: Final = 0.25
RETAKE_TIMEOUT_S: Final = 60.0


class TakenSnapshot:
    """What the snapshot sees, and its rows. Keeps its connection until it is closed."""

    def __init__(self, snapshot: Snapshot, visibility: SnapshotVisibility, stack: AsyncExitStack) -> None:
        self._snapshot = snapshot
        self._stack = stack
        self.visibility = visibility

    def rows(self) -> AsyncIterator[list[bytes]]:
        """The rows as JSON texts, in batches; to be read once."""
        return self._snapshot.rows()

    async def close(self) -> None:
        """Give the connection back; a query under way is cancelled."""
        await self._stack.aclose()


async def take_snapshot(
    source: SnapshotSource,
    relation: Relation,
    definition: ShapeDefinition,
    prepare_check: Callable[[], Callable[[SnapshotVisibility], bool]],
    on_retake: Callable[[], None],
) -> TakenSnapshot:
    """A snapshot that the check accepts which was prepared before it was asked for. Raises CreationFailed
    when none was in time, NotNow, SourceError.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + RETAKE_TIMEOUT_S, RETAKE_FIRST_S
    async with AsyncExitStack() as stack:
        snapshot = await stack.enter_async_context(
            source.open(relation, definition.columns, definition.where, definition.log)
        )
        while True:
            is_complete = prepare_check()
            visibility = await snapshot.take()
            if is_complete(visibility):
                return TakenSnapshot(snapshot, visibility, stack.pop_all())
            await snapshot.discard()
            on_retake()
            if loop.time() >= deadline:
                raise CreationFailed("a committed transaction does not become visible (synchronous standby?)")
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETAKE_CAP_S)
