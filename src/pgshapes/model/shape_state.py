"""The states of a shape and the moves between them. Pure.

What a creation waits for is in its lock (`creation_locks`), and how far the snapshot is written is in the
tail: neither is a state of the shape. Invariant: a handle is used for one shape only, so a removed
shape is never recreated under the same handle.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class ShapeState(Enum):
    """Where a shape is between its creation and its removal."""

    ABSENT = "absent"
    """There is no row: the shape is not created yet, or it is removed. No row holds this value."""
    CREATING = "creating"
    """The creation has not succeeded yet. The handle must not be returned to a client."""
    LIVE = "live"
    """The handle may be returned and its log served."""
    RETIRING = "retiring"
    """The shape is being removed and must not be served. Its 409s are sent when the row is removed."""

    is_live: bool
    is_in_use: bool
    """Creating or live: no removal has begun."""

    def __init__(self, value: str) -> None:
        # Attributes rather than properties: every request reads them.
        self.is_live = value == "live"
        self.is_in_use = value in ("creating", "live")


class ShapeMove(Enum):
    """An event that changes the state of a shape."""

    ADD = "add"
    """A creation begins."""
    RESTORE = "restore"
    """The shape of an earlier run is loaded; its creation succeeded then."""
    ACTIVATE = "activate"
    """The creation has succeeded."""
    RETIRE = "retire"
    """The removal begins, also the removal of a shape whose creation failed."""
    REMOVE = "remove"
    """The removal is complete."""


MOVES: Final[Mapping[tuple[ShapeState, ShapeMove], ShapeState]] = {
    (ShapeState.ABSENT, ShapeMove.ADD): ShapeState.CREATING,
    (ShapeState.ABSENT, ShapeMove.RESTORE): ShapeState.LIVE,
    (ShapeState.CREATING, ShapeMove.ACTIVATE): ShapeState.LIVE,
    (ShapeState.CREATING, ShapeMove.RETIRE): ShapeState.RETIRING,
    (ShapeState.LIVE, ShapeMove.RETIRE): ShapeState.RETIRING,
    (ShapeState.RETIRING, ShapeMove.REMOVE): ShapeState.ABSENT,
}
"""(state, move) → the next state. Every other pair is a defect."""


class IllegalMove(AssertionError):
    """A move that is not in `MOVES`: a defect in pgshapes."""


def state_after(state: ShapeState, move: ShapeMove) -> ShapeState:
    """The state that `move` leads to. Raises IllegalMove."""
    after = MOVES.get((state, move))
    if after is None:
        raise IllegalMove(f"cannot {move.value} a shape that is {state.value}")
    return after
