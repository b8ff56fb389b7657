"""Rows of shapes change as `model/shape_state.py` says: each legal move is made, each illegal one refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product

import pytest
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import RelationData
from pgshapes.model.shape_state import MOVES, IllegalMove, ShapeMove, ShapeState
from pgshapes.model.tail import Tail
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue import Statement, StoredShape
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables

SHAPE = shape_of()
RELATION = RelationData(1, "public", "items", "r", (), ("id",), 1)
STORED = StoredShape(
    "h", SHAPE.comparable, SHAPE.definition, (RELATION,), SnapshotVisibility(1, 1, (), Lsn(1)), {1: "7.1"}
)


class Buffer:
    """The write buffer; all is durable at once."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []

    def put(self, *statements: Statement) -> asyncio.Future[None]:
        self.statements += statements
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Scene:
    """One handle, and the rows that it had, in order."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.buffer = Buffer()
        self.status = ShapeStatus(self.tables, self.buffer)
        self.rows: list[ShapeRow | None] = []
        self.tables.shapes.watch("h", self.rows.append)

    @property
    def state(self) -> ShapeState:
        row = self.tables.shapes.get("h")
        return ShapeState.ABSENT if row is None else row.state

    def content(self) -> object:
        """Everything that a move may change."""
        tables = (self.tables.shapes, self.tables.handles, self.tables.tails)
        return [dict(table.items()) for table in tables], list(self.buffer.statements)


CALLS: dict[ShapeMove, Callable[[ShapeStatus], object]] = {
    ShapeMove.ADD: lambda status: status.add_shape("h", SHAPE, [RELATION]),
    ShapeMove.RESTORE: lambda status: status.restore([STORED]),
    ShapeMove.ACTIVATE: lambda status: status.activate("h"),
    ShapeMove.RETIRE: lambda status: status.retire(["h"]),
    ShapeMove.REMOVE: lambda status: status.remove(["h"]),
}

WAYS: dict[ShapeState, list[ShapeMove]] = {
    ShapeState.ABSENT: [],
    ShapeState.CREATING: [ShapeMove.ADD],
    ShapeState.LIVE: [ShapeMove.ADD, ShapeMove.ACTIVATE],
    ShapeState.RETIRING: [ShapeMove.RESTORE, ShapeMove.RETIRE],
}
"""The moves that lead to each state."""


def scene_in(state: ShapeState) -> Scene:
    scene = Scene()
    for move in WAYS[state]:
        CALLS[move](scene.status)
    assert scene.state is state
    return scene


@pytest.mark.parametrize(("state", "move"), MOVES, ids=lambda each: each.value)
async def test_every_legal_move_is_made(state: ShapeState, move: ShapeMove) -> None:
    scene = scene_in(state)
    CALLS[move](scene.status)
    assert scene.state is MOVES[state, move]


ILLEGAL = [pair for pair in product(ShapeState, ShapeMove) if pair not in MOVES]


@pytest.mark.parametrize(("state", "move"), ILLEGAL, ids=lambda each: each.value)
async def test_every_illegal_move_is_refused_and_changes_nothing(state: ShapeState, move: ShapeMove) -> None:
    scene = scene_in(state)
    before = scene.content()
    if move is ShapeMove.RETIRE:
        assert scene.status.retire(["h"]) == []
    else:
        with pytest.raises(IllegalMove):
            CALLS[move](scene.status)
    assert scene.content() == before
    assert scene.state is state


async def test_each_state_of_a_shape_is_one_row() -> None:
    """Every row is a delta to every process, so a creation writes two rows and a removal one."""
    scene = Scene()
    for move in (ShapeMove.ADD, ShapeMove.ACTIVATE, ShapeMove.RETIRE, ShapeMove.REMOVE):
        CALLS[move](scene.status)
    states = [row and row.state for row in scene.rows]
    assert states == [ShapeState.CREATING, ShapeState.LIVE, ShapeState.RETIRING, None]


async def test_a_restored_shape_is_live_and_has_its_handle() -> None:
    scene = Scene()
    scene.status.restore([STORED])
    assert scene.tables.shapes["h"].state.is_live
    assert scene.tables.handles[SHAPE.comparable] == "h"
    assert scene.buffer.statements == []


async def test_a_retiring_shape_has_no_handle_and_keeps_its_tail_until_it_is_removed() -> None:
    scene = scene_in(ShapeState.LIVE)
    scene.tables.tails.put("h", Tail())
    assert scene.status.retire(["h", "unknown", "h"]) == ["h"]
    assert SHAPE.comparable not in scene.tables.handles
    assert "h" in scene.tables.tails
    scene.status.remove(["h"])
    assert "h" not in scene.tables.shapes and "h" not in scene.tables.tails


async def test_the_handle_of_a_newer_shape_of_the_same_definition_stays() -> None:
    scene = scene_in(ShapeState.LIVE)
    scene.status.add_shape("younger", SHAPE, [RELATION])
    scene.status.retire(["h"])
    assert scene.tables.handles[SHAPE.comparable] == "younger"


def test_live_and_in_use() -> None:
    assert [state for state in ShapeState if state.is_live] == [ShapeState.LIVE]
    assert [state for state in ShapeState if state.is_in_use] == [ShapeState.CREATING, ShapeState.LIVE]


def test_every_state_can_be_entered_and_left() -> None:
    assert {state for state, _ in MOVES} == set(MOVES.values()) == set(ShapeState)
    assert {move for _, move in MOVES} == set(ShapeMove)
