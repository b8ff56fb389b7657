"""Assembling fragments: op numbers, order, splitting, invalid messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.errors import ReplicaIdentityNotFull, WireError
from pgshapes.model.change import LARGE_CHARACTERS, Change, Fragment, Operation
from pgshapes.postgres.pgoutput_messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Identity,
    Insert,
    Message,
    Origin,
    RelationColumn,
    RelationMessage,
    Truncate,
    TypeMessage,
    Update,
)
from pgshapes.routing.assembler import Assembled, RelationAnnounced, RelationFailed, TransactionAssembler


def relation(oid: int, width: int = 1) -> RelationMessage:
    """The announcement of a relation with that many columns."""
    columns = tuple(RelationColumn(f"c{number}", 25, -1, number == 0) for number in range(width))
    return RelationMessage(oid, "public", "items", "f", columns)


ITEMS = relation(10)
BEGIN, COMMIT = Begin(500, 0, 77), Commit(500, 560, 0)


def assembled(assembler: TransactionAssembler, messages: Iterable[Message]) -> list[Assembled]:
    pieces: list[Assembled] = []
    for message in messages:
        pieces += assembler.feed(message, message.end_lsn if isinstance(message, Commit) else 0)
    return pieces


def announced(*relations: RelationMessage) -> TransactionAssembler:
    """An assembler that knows these relations, from a transaction before."""
    assembler = TransactionAssembler()
    assembled(assembler, [Begin(100, 0, 1), *relations, Commit(100, 160, 0)])
    return assembler


def whole(*messages: Message, width: int = 1) -> Fragment:
    """The single fragment of a transaction with these messages about the relations 10 and 11."""
    (fragment,) = assembled(announced(relation(10, width), relation(11)), [BEGIN, *messages, COMMIT])
    assert isinstance(fragment, Fragment)
    return fragment


def test_a_transaction_is_one_fragment_with_even_numbers() -> None:
    fragment = whole(
        Insert(10, ("1", None)),
        Update(10, Identity.FULL, ("1", None), ("1", "x")),
        Delete(10, Identity.FULL, ("1", "x")),
        Truncate((10, 11), False, False),
        width=2,
    )
    assert fragment == Fragment(
        77,
        500,
        560,
        (
            Change(Operation.INSERT, 10, 0, None, ("1", None)),
            Change(Operation.UPDATE, 10, 2, ("1", None), ("1", "x")),
            Change(Operation.DELETE, 10, 4, ("1", "x"), None),
            Change(Operation.TRUNCATE, 10, 6),
            Change(Operation.TRUNCATE, 11, 8),
        ),
        True,
        True,
    )


def test_a_transaction_without_changes_still_moves_the_position() -> None:
    assert whole(Origin(1, "other"), TypeMessage(99, "public", "mood")) == Fragment(
        77, 500, 560, (), True, True
    )


def test_each_change_has_its_own_position() -> None:
    assembler, row = announced(relation(11)), ("1",)
    messages: list[Message] = [
        BEGIN,
        ITEMS,
        Insert(10, row),
        Update(10, Identity.FULL, row, row),
        Delete(10, Identity.FULL, row),
        Truncate((10, 11), False, False),
    ]
    for lsn, message in enumerate(messages, start=100):
        assembler.feed(message, lsn)
    (fragment,) = assembler.feed(COMMIT, 560)
    assert isinstance(fragment, Fragment)
    assert [change.lsn for change in fragment.changes] == [102, 103, 104, 105, 105]


def test_an_untouched_value_comes_from_the_old_row() -> None:
    fragment = whole(Update(10, Identity.FULL, ("1", "long", None), ("2", UNCHANGED, UNCHANGED)), width=3)
    assert fragment.changes[0].new == ("2", "long", None)


def test_announcements_keep_their_place_between_changes() -> None:
    messages: list[Message] = [BEGIN, ITEMS, Insert(10, ("1",)), ITEMS, Insert(10, ("2",)), COMMIT]
    first, cut, second, last = assembled(TransactionAssembler(), messages)
    assert first == second == RelationAnnounced(ITEMS, BEGIN.xid, BEGIN.final_lsn)
    assert isinstance(cut, Fragment) and isinstance(last, Fragment)
    assert (cut.is_first, cut.is_last, [change.op for change in cut.changes]) == (True, False, [0])
    assert (last.is_first, last.is_last, [change.op for change in last.changes]) == (False, True, [2])


@given(st.integers(1, 5), st.integers(1, 20), st.lists(st.text(max_size=10), max_size=40))
def test_splitting_does_not_change_the_transaction(limit: int, characters: int, texts: list[str]) -> None:
    messages: list[Message] = [BEGIN, ITEMS, *(Insert(10, (text,)) for text in texts), COMMIT]
    pieces = assembled(TransactionAssembler(max_changes=limit, max_characters=characters), messages)
    fragments = [piece for piece in pieces if isinstance(piece, Fragment)]
    changes = [change for fragment in fragments for change in fragment.changes]
    assert [(change.op, change.new) for change in changes] == [
        (2 * index, (text,)) for index, text in enumerate(texts)
    ]
    assert [fragment.is_first for fragment in fragments] == [True] + [False] * (len(fragments) - 1)
    assert [fragment.is_last for fragment in fragments] == [False] * (len(fragments) - 1) + [True]
    assert all(1 <= len(fragment.changes) <= limit for fragment in fragments if texts)
    assert {(fragment.xid, fragment.commit_lsn) for fragment in fragments} == {(77, 500)}


def test_a_large_row_is_cut_off_by_its_size() -> None:
    assembler = TransactionAssembler(max_characters=100)
    pieces = assembled(assembler, [BEGIN, ITEMS, Insert(10, ("x" * 100,)), Insert(10, ("y",)), COMMIT])
    assert [len(piece.changes) for piece in pieces if isinstance(piece, Fragment)] == [1, 1]


@pytest.mark.parametrize(
    "message",
    [
        Update(10, None, None, ("2",)),
        Update(10, Identity.KEY, ("1",), ("2",)),
        Delete(10, Identity.KEY, ("1",)),
    ],
)
def test_a_change_without_its_old_row_names_the_table_and_keeps_its_number(message: Message) -> None:
    assembler = TransactionAssembler()
    assembled(assembler, [BEGIN, ITEMS])
    with pytest.raises(ReplicaIdentityNotFull, match=r'"public"\."items"') as raised:
        assembled(assembler, [message])
    assert (raised.value.relation_oid, raised.value.action) == (10, "invalidate")
    (last,) = assembled(assembler, [Insert(10, ("3",)), COMMIT])
    assert isinstance(last, Fragment)
    assert [change.op for change in last.changes] == [2]


@pytest.mark.parametrize(
    "message",
    [
        Insert(10, (UNCHANGED,)),
        Update(10, Identity.FULL, (UNCHANGED,), (UNCHANGED,)),
        Update(10, Identity.FULL, ("1", "2"), (UNCHANGED,)),
        Insert(10, ("1", "2")),
        Insert(10, ()),
        Update(10, Identity.FULL, ("1", "2"), ("1", "2")),
        Delete(10, Identity.FULL, ("1", "2")),
    ],
)
def test_a_change_that_cannot_be_processed_fails_its_relation_and_keeps_its_number(message: Message) -> None:
    assembler = announced(ITEMS, relation(11))
    pieces = assembled(assembler, [BEGIN, Insert(11, ("1",)), message, Insert(11, ("2",)), COMMIT])
    assert [piece.relation_oid for piece in pieces if isinstance(piece, RelationFailed)] == [10]
    changes = [change for piece in pieces if isinstance(piece, Fragment) for change in piece.changes]
    assert [(change.relation_oid, change.op) for change in changes] == [(11, 0), (11, 4)]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([Insert(10, ("1",))], "change of relation 10 at 0/0 outside of a transaction"),
        ([ITEMS], "RELATION at 0/0 outside of a transaction"),
        ([COMMIT], "COMMIT at 0/1F4 outside of a transaction"),
        ([BEGIN, Begin(600, 0, 78)], "BEGIN of transaction 78 at 0/258 inside transaction 77"),
        ([BEGIN, Commit(501, 560, 0)], "COMMIT at 0/1F5 in transaction 77, which ends at 0/1F4"),
        ([BEGIN, COMMIT, COMMIT], "COMMIT at 0/1F4 outside of a transaction"),
        ([BEGIN, COMMIT, BEGIN], "BEGIN of transaction 77 at 0/1F4, after the COMMIT at 0/1F4"),
        ([BEGIN, Commit(500, 500, 0)], "COMMIT at 0/1F4 that ends at 0/1F4, sent at"),
        ([BEGIN, Insert(12, ("1",))], "change of relation 12 at 0/0, for which no RELATION"),
        ([BEGIN, Update(12, None, None, ("1",))], "change of relation 12 at 0/0, for which no RELATION"),
        ([BEGIN, Truncate((10, 12), False, False)], "change of relation 12 at 0/0, for which no RELATION"),
    ],
)
def test_messages_out_of_place_are_errors(messages: list[Message], says: str) -> None:
    with pytest.raises(WireError, match=f"^{re.escape(says)}"):
        assembled(announced(ITEMS), messages)


def test_an_end_that_was_not_sent_is_not_acknowledged() -> None:
    """The end of a COMMIT is the position of its message, as all versions of Postgres send it."""
    assembler = TransactionAssembler()
    assembler.feed(BEGIN, 400)
    with pytest.raises(WireError, match="COMMIT at 0/1F4 that ends at 0/230, sent at 0/22F"):
        assembler.feed(COMMIT, 559)


def test_rows_of_a_relation_whose_announcement_cannot_be_read_fail_it() -> None:
    """Until the next announcement; others are not affected."""
    assembler = announced(relation(11))
    assembled(assembler, [BEGIN])
    assert [*assembler.skip_announcement(12, ValueError(), 450)]
    changes: list[Message] = [Insert(12, ("1",)), Update(12, None, None, ("1",)), Insert(11, ("1",))]
    failed = [piece for piece in assembled(assembler, changes) if isinstance(piece, RelationFailed)]
    assert [piece.relation_oid for piece in failed] == [12, 12]
    assert "unknown columns" in str(failed[0].error)
    pieces = assembled(assembler, [relation(12), Insert(12, ("2",)), COMMIT])
    assert isinstance(pieces[-1], Fragment) and [change.op for change in pieces[-1].changes] == [6]


def test_a_change_that_names_no_relation_of_the_stream_is_not_skipped() -> None:
    """Its oid may be what is damaged: nobody knows whose change is missing."""
    assembler = announced(ITEMS)
    assembled(assembler, [BEGIN])
    with pytest.raises(WireError, match="change of relation 12 at 0/1C2"):
        assembler.skip_change(12, ValueError(), 450)


def test_is_in_transaction() -> None:
    assembler = TransactionAssembler()
    seen = []
    for message in (BEGIN, ITEMS, COMMIT):
        assembled(assembler, [message])
        seen.append(assembler.is_in_transaction)
    assert seen == [True, True, False]


def test_a_fragment_may_have_large_rows_only_if_a_change_is_large() -> None:
    """Many small changes are not one large row, and a large one concerns its own fragment only."""
    small = Insert(10, ("a" * 100,))
    large = Insert(10, ("a" * (LARGE_CHARACTERS + 1),))
    narrow = RelationMessage(10, "public", "items", "f", ITEMS.columns[:1])
    messages: list[Message] = [BEGIN, narrow, *[small] * 300, large, *[small] * 300, COMMIT]
    pieces = assembled(TransactionAssembler(max_changes=100), messages)
    fragments = [piece for piece in pieces if isinstance(piece, Fragment)]
    assert [piece.may_be_large for piece in fragments] == [False] * 3 + [True] + [False] * 3
    assert sum(len(piece.changes) for piece in fragments) == 601
