"""Encoded frames decode to themselves; anything else raises WireError."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes import errors
from pgshapes.errors import PgShapesError, RequestError, WireError
from pgshapes.model.offset import Offset
from pgshapes.model.relation import Column, Relation
from pgshapes.model.shape import RawShape, RelationVersion, ResolvedShape, ShapeDefinition
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.tail import Tail
from pgshapes.tables import frames
from pgshapes.tables.calls import (
    CreateOrWaitShapeHandle,
    DeleteShape,
    InvalidateRelation,
    ListUnseen,
    ResolveShape,
    Unseen,
)
from pgshapes.tables.deltas import Rows
from pgshapes.tables.rows import ConditionRow, CreationLock, CreationState, ShapeRow

COLUMN = Column("id", 23, "int4", "b", -1, 0, None, True, 0, False)
RESOLVED = ResolvedShape(
    ShapeDefinition((1,), "public", "t", ("id",), ("id",), None, True, "default", "full"),
    b"\xff",
    (RelationVersion(1, "public", "t", 2),),
    b"{}",
)
ROWS = Rows(
    relations=[
        (("public", "t"), Relation(1, "public", "t", "r", (COLUMN,), ("id",), 3)),
        (("a", "b"), None),
    ],
    handles=[(b"\x00\xff", "h"), (b"", None)],
    shapes=[("h", ShapeRow(b"\xff", (1,), ShapeState.RETIRING))],
    tails=[("h", Tail(Offset(2**64 - 1, 2**63 - 1), Offset(-1, 0), 2, True, (5, 1))), ("i", None)],
    creation_locks=[(b"c", CreationLock(CreationState.WAITING_FOR_TABLE_LOCK, 1))],
    status=[("s", ConditionRow(False, "x"))],
    progress=[("p", 2**64 - 1)],
)
OWNER_FRAMES: list[frames.OwnerFrame] = [
    frames.Welcome(1, 5),
    frames.StateBegin(0),
    frames.StateSlice(ROWS),
    frames.StateEnd(7),
    frames.Deltas(8, ROWS),
    frames.Deltas(9, Rows()),
    frames.Answer(1, RESOLVED),
    frames.Answer(2, "handle"),
    frames.Answer(3, None),
    frames.Answer(4, False),
    frames.Answer(5, Unseen(2**64 - 1, ((2**32 - 1, 2**63), (3, 1)))),
    frames.Failure(5, "request", "m", {"status": 400, "errors": {"a": ["b"]}}),
    frames.Reached(6),
    frames.Heartbeat(),
]
CALLER_FRAMES: list[frames.CallerFrame] = [
    frames.Subscribe(),
    frames.CallFrame(1, 12.5, ResolveShape(RawShape("s", "t", "a = $1", (("1", "x"),), ("id",), None))),
    frames.CallFrame(2, 0.0, CreateOrWaitShapeHandle(RESOLVED)),
    frames.CallFrame(3, 1.0, DeleteShape("h")),
    frames.CallFrame(4, 1.0, ListUnseen()),
    frames.CallFrame(5, 1.0, InvalidateRelation(2**32 - 1)),
    frames.Cancel(4),
    frames.Barrier(5),
    frames.Acknowledge(6),
]


def payload_of(frame: Any) -> bytes:
    (payload,) = frames.FrameSplitter().feed(frames.encode(frame))
    return payload


@pytest.mark.parametrize("frame", OWNER_FRAMES, ids=repr)
def test_an_owners_frame_decodes_to_itself(frame: frames.OwnerFrame) -> None:
    assert frames.decode_owner_frame(payload_of(frame)) == frame


@pytest.mark.parametrize("frame", CALLER_FRAMES, ids=repr)
def test_a_callers_frame_decodes_to_itself(frame: frames.CallerFrame) -> None:
    assert frames.decode_caller_frame(payload_of(frame)) == frame


def test_every_frame_is_covered_here() -> None:
    assert {type(frame) for frame in OWNER_FRAMES} == set(frames.OwnerFrame.__args__)
    assert {type(frame) for frame in CALLER_FRAMES} == set(frames.CallerFrame.__args__)


def test_rows_have_the_types_of_the_model() -> None:
    decoded = frames.decode_owner_frame(payload_of(frames.StateSlice(ROWS)))
    assert isinstance(decoded, frames.StateSlice)
    relation, tail = decoded.rows.relations[0][1], decoded.rows.tails[0][1]
    assert isinstance(relation, Relation) and isinstance(relation.columns[0], Column)
    assert isinstance(tail, Tail) and isinstance(tail.latest, Offset)
    assert isinstance(decoded.rows.creation_locks[0][1], CreationLock)


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_frames_are_split_from_pieces_of_any_size(sizes: list[int]) -> None:
    stream = b"".join(frames.encode(frame) for frame in OWNER_FRAMES)
    splitter, found, start = frames.FrameSplitter(), list[bytes](), 0
    while start < len(stream):
        size = sizes[start % len(sizes)]
        found += splitter.feed(stream[start : start + size])
        start += size
    assert [frames.decode_owner_frame(payload) for payload in found] == OWNER_FRAMES


def test_a_length_that_no_frame_has_is_refused() -> None:
    with pytest.raises(WireError):
        list(frames.FrameSplitter().feed(b"\xff\xff\xff\xff"))


@given(st.binary(max_size=300))
def test_garbage_is_a_wire_error(garbage: bytes) -> None:
    refused_or_read(frames.decode_owner_frame, garbage)
    refused_or_read(frames.decode_caller_frame, garbage)


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_damaged_frames_are_a_wire_error(seed: int, damages: int) -> None:
    dice = random.Random(seed)
    for decode, whole in (
        (frames.decode_owner_frame, OWNER_FRAMES),
        (frames.decode_caller_frame, CALLER_FRAMES),
    ):
        payload = bytearray(payload_of(dice.choice(whole)))
        for _ in range(damages):
            payload[dice.randrange(len(payload))] = dice.randrange(256)
        refused_or_read(decode, bytes(payload[: dice.randrange(len(payload) + 1)]))


def test_deep_nesting_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        frames.decode_owner_frame(b"\x95\xa7failure\x01\xa1x\xa1y\x81\xa1d" + b"\x91" * 100_000 + b"\xc0")


def refused_or_read(decode: Any, payload: bytes) -> None:
    try:
        decode(payload)
    except WireError:
        return


EXAMPLES = {
    errors.ReplicaIdentityNotFull: errors.ReplicaIdentityNotFull("public", "t", relation_oid=7),
    RequestError: RequestError("why", status=404, errors={"where": ["is odd"]}),
}


def all_error_classes() -> list[type[PgShapesError]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PgShapesError)
    ]


@pytest.mark.parametrize("kind", all_error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_is_restored_as_its_class(kind: type[PgShapesError]) -> None:
    error = EXAMPLES.get(kind) or kind("why")
    decoded = frames.decode_owner_frame(payload_of(frames.failure_frame(1, error)))
    assert isinstance(decoded, frames.Failure)
    restored = frames.restore_error(decoded)
    assert type(restored) is kind
    assert (str(restored), vars(restored)) == (str(error), vars(error))


def test_every_class_has_its_own_code() -> None:
    codes = [kind.code for kind in all_error_classes()]
    assert len(codes) == len(set(codes))


def test_an_error_that_cannot_be_ours_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        frames.restore_error(frames.Failure(1, "no_such_code", "m", {}))


def deeply_nested() -> list[Any]:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "value", [object(), 2**70, "\ud800", deeply_nested()], ids=["an object", "a number", "a text", "depth"]
)
def test_what_a_frame_cannot_hold_is_a_wire_error(value: Any) -> None:
    with pytest.raises(WireError):
        frames.encode(frames.failure_frame(1, RequestError(errors=value)))


def test_a_frame_that_no_splitter_takes_is_a_wire_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1_000)
    with pytest.raises(WireError):
        frames.encode(frames.Answer(1, "x" * 1_000))


@pytest.mark.parametrize("frame", OWNER_FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_is_the_same_with_valid_texts(frame: frames.OwnerFrame) -> None:
    """So that those of a frame with one that is not valid are."""
    whole = frames._with_valid_texts(msgspec.to_builtins(frame, builtin_types=(bytes,)))
    assert frames.decode_owner_frame(msgspec.msgpack.encode(whole)) == frame
