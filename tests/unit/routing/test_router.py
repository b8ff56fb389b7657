"""Routing transactions: each shape gets its entries once, with one `last` mark at the end."""

from __future__ import annotations

import pytest
from tests.support.seams.routing_samples import (
    ID,
    ITEMS,
    LEAF,
    OLD_SNAPSHOT,
    ROOT,
    appended_entries,
    definition,
    deleted,
    handles,
    inserted,
    live,
    new_router,
    parsed,
    piece,
    registered,
    relation,
    transaction,
    truncated,
    updated,
)

from pgshapes.model.change import Change
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.routed_shape import BUFFER_LIMIT_BYTES, Phase
from pgshapes.routing.router import Router

HIGH = "grade > 10"


@pytest.fixture
def router() -> Router:
    return new_router()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("20", "30", [("update", "1", True)]),
        ("5", "30", [("insert", "1", True)]),
        (None, "30", [("insert", "1", True)]),
        ("20", "5", [("delete", "1", True)]),
        ("20", None, [("delete", "1", True)]),
        ("5", "6", []),
        ("20", "20", []),
    ],
)
def test_a_row_moves_into_a_clause_out_of_it_or_within_it(
    router: Router, before: str | None, after: str | None, expected: list[tuple[str, str, bool]]
) -> None:
    live(router, "h", where=HIGH)
    routed = router.route(transaction(100, updated(0, ("1", "a", before), ("1", "a", after))))
    assert appended_entries(routed) == expected


def test_a_row_that_comes_in_is_written_whole_and_one_that_goes_out_by_what_it_was(router: Router) -> None:
    live(router, "h", where=HIGH)
    change = updated(0, ("1", "a", "5"), ("2", "b", "30"))
    back = updated(2, ("2", "b", "30"), ("3", "b", "5"))
    (append,) = router.route(transaction(100, change, back)).appends
    come, gone = map(parsed, append.entries)
    assert (come["key"], come["value"]) == (
        '"public"."items"/"2"',
        {"id": "2", "title": "b", "grade": "30"},
    )
    assert (gone["key"], gone["value"]) == ('"public"."items"/"2"', {"id": "2"})
    assert "key_change_from" not in come["headers"]
    assert "key_change_to" not in gone["headers"]


def test_rows_go_to_the_shapes_that_they_belong_to(router: Router) -> None:
    live(router, "all")
    live(router, "high", where=HIGH)
    live(router, "one", where="id = 1")
    live(router, "other", relation(ID, oid=20, name="other"))
    routed = router.route(transaction(100, inserted(0, "1", "a", "5"), deleted(2, "2", "b", "30")))
    assert appended_entries(routed, "all") == [("insert", "1", False), ("delete", "2", True)]
    assert appended_entries(routed, "high") == [("delete", "2", True)]
    assert appended_entries(routed, "one") == [("insert", "1", True)]
    assert handles(routed) == {"all", "high", "one"}


def test_the_clause_may_read_columns_that_are_not_selected(router: Router) -> None:
    live(router, "h", columns=("id",), where=HIGH)
    routed = router.route(transaction(100, updated(0, ("1", "a", "20"), ("1", "b", "30"))))
    assert appended_entries(routed) == []
    routed = router.route(transaction(200, updated(0, ("1", "b", "30"), ("1", "b", "3"))))
    assert appended_entries(routed) == [("delete", "1", True)]


def test_shapes_that_are_written_alike_share_their_entries(router: Router) -> None:
    live(router, "a")
    live(router, "b", where=HIGH)
    first, second = router.route(transaction(100, inserted(0, "1", "a", "20"))).appends
    assert first.entries[0] is second.entries[0]


def test_a_change_of_the_key_within_the_shape_is_marked_on_its_second_half(router: Router) -> None:
    live(router, "h")
    routed = router.route(transaction(100, updated(4, ("1", "a", "5"), ("2", "a", "5"))))
    assert appended_entries(routed) == [("delete", "1", False), ("insert", "2", True)]
    assert [entry.offset for entry in routed.appends[0].entries] == [(100, 4), (100, 5)]


def test_transactions_before_the_snapshot_are_buffered(router: Router) -> None:
    registered(router, "h")
    assert router.route(transaction(100, inserted(0, "1", "a", "5"))).appends == []
    assert appended_entries(router.release("h", OLD_SNAPSHOT)) == [("insert", "1", True)]
    assert appended_entries(router.route(transaction(200, inserted(0, "2", "a", "5")))) == [
        ("insert", "2", True)
    ]


def test_only_buffered_transactions_that_the_snapshot_does_not_see_are_appended(router: Router) -> None:
    registered(router, "h")
    for xid, lsn in ((8, 100), (10, 200), (11, 300), (12, 400), (11, 501)):
        router.route(transaction(lsn, inserted(0, str(lsn), "a", "5"), xid=xid))
    released = router.release("h", SnapshotVisibility(10, 12, (10,), 500))
    assert appended_entries(released) == [
        ("insert", "200", True),
        ("insert", "400", True),
        ("insert", "501", True),
    ]
    assert [append.ends_transaction for append in released.appends] == [True, True, True]


def test_transactions_are_filtered_until_the_first_commit_past_the_insert_lsn(router: Router) -> None:
    shape = router.register("h", ITEMS, definition(), None)
    router.release("h", SnapshotVisibility(10, 12, (10,), 500))
    seen, unseen = inserted(0, "1", "a", "5"), inserted(0, "2", "a", "5")
    assert appended_entries(router.route(transaction(300, seen, xid=11))) == []
    assert appended_entries(router.route(transaction(499, unseen, xid=10))) == [("insert", "2", True)]
    assert appended_entries(router.route(transaction(500, seen, xid=9))) == []
    phases = [shape.phase]
    assert appended_entries(router.route(transaction(501, unseen, xid=9))) == [("insert", "2", True)]
    assert [*phases, shape.phase] == [Phase.BUFFERING, Phase.LIVE]


def test_transactions_are_filtered_across_xid_wraparound(router: Router) -> None:
    wrap = 2**32
    registered(router, "h")
    for index, xid in enumerate((wrap - 10, wrap - 3, 3, 5, 12)):
        router.route(transaction(100 + index, inserted(0, str(xid), "a", "5"), xid=xid))
    released = router.release("h", SnapshotVisibility(wrap - 3, wrap + 10, (wrap - 3, wrap + 3), 500))
    assert appended_entries(released) == [("insert", str(xid), True) for xid in (wrap - 3, 3, 12)]


def test_transactions_delivered_before_registration_are_skipped(router: Router) -> None:
    router.route(transaction(100, inserted(0, "1", "a", "5")))
    registered(router, "h")
    assert router.skip_until("h") == 100


def test_a_shape_registered_within_a_transaction_gets_nothing_of_it(router: Router) -> None:
    live(router, "early")
    router.route(piece(100, inserted(0, "1", "a", "5")))
    live(router, "late")
    routed = router.route(piece(100, inserted(2, "2", "a", "5"), is_last=True))
    assert handles(routed) == {"early"}
    assert handles(router.route(transaction(200, inserted(0, "3", "a", "5")))) == {"early", "late"}


def test_a_restored_shape_continues_after_its_log(router: Router) -> None:
    shape = router.restore("h", ITEMS, definition(), None, SnapshotVisibility(10, 12, (10,), 500), 300)
    for lsn, xid, expected in ((300, 13, 0), (400, 11, 0), (450, 13, 1), (600, 11, 1)):
        assert (
            len(appended_entries(router.route(transaction(lsn, inserted(0, "1", "a", "5"), xid=xid))))
            == expected
        )
    assert shape.phase is Phase.LIVE


def test_a_full_buffer_moves_the_registration_past_the_transaction(router: Router) -> None:
    shape = router.register("h", ITEMS, definition(), None)
    router.route(transaction(100, inserted(0, "1", "a", "5")))
    router.route(piece(200, inserted(0, "2", "x" * BUFFER_LIMIT_BYTES, "5")))
    assert (shape.skip_until, shape.buffer, shape.buffered_bytes) == (200, [], 0)
    router.route(piece(200, inserted(2, "3", "a", "5"), is_last=True))
    router.route(transaction(300, inserted(0, "4", "a", "5"), xid=80))
    with pytest.raises(ValueError, match="dropped from the buffer"):
        router.release("h", OLD_SNAPSHOT)
    assert not router.is_complete("h", OLD_SNAPSHOT, ())
    assert router.has_dropped("h")
    up_to_200 = SnapshotVisibility(71, 71, (), 250)
    assert router.is_complete("h", up_to_200, ())
    assert not router.has_dropped("h")
    assert appended_entries(router.release("h", up_to_200)) == [("insert", "4", True)]


def test_an_unregistered_shape_gets_nothing_more(router: Router) -> None:
    live(router, "h")
    live(router, "stays", where=HIGH)
    router.unregister("h")
    router.unregister("h")
    assert "h" not in router
    assert len(router) == 1
    assert handles(router.route(transaction(100, inserted(0, "1", "a", "20")))) == {"stays"}
    router.unregister("stays")
    assert not router.has_relation(ITEMS.oid)
    assert router.route(transaction(200, inserted(0, "1", "a", "20"))).appends == []


def test_a_transaction_in_pieces_is_marked_once_at_its_end(router: Router) -> None:
    live(router, "h")
    first = router.route(piece(100, inserted(0, "1", "a", "5"), inserted(2, "2", "a", "5")))
    second = router.route(piece(100, inserted(4, "3", "a", "5")))
    third = router.route(piece(100, inserted(6, "4", "a", "5"), is_last=True))
    assert appended_entries(first) == [("insert", "1", False)]
    assert appended_entries(second) == [("insert", "2", False)]
    assert appended_entries(third) == [("insert", "3", False), ("insert", "4", True)]
    ends = [append.ends_transaction for routed in (first, second, third) for append in routed.appends]
    assert ends == [False, False, True]


def test_the_last_message_of_a_shape_is_marked_at_the_commit(router: Router) -> None:
    live(router, "h", where=HIGH)
    assert appended_entries(router.route(piece(100, inserted(0, "1", "a", "20")))) == []
    assert appended_entries(router.route(piece(100, inserted(2, "2", "a", "5")))) == []
    assert appended_entries(router.route(piece(100, is_last=True))) == [("insert", "1", True)]
    assert appended_entries(router.route(transaction(200, inserted(0, "3", "a", "20")))) == [
        ("insert", "3", True)
    ]


def test_a_transaction_of_another_table_ends_nothing_for_a_shape(router: Router) -> None:
    live(router, "h")
    live(router, "other", relation(ID, oid=20, name="other"))
    routed = router.route(transaction(100, inserted(0, "1", oid=20)))
    assert handles(routed) == {"other"}


def test_pieces_are_kept_like_whole_transactions(router: Router) -> None:
    registered(router, "h")
    router.route(piece(100, inserted(0, "1", "a", "5")))
    router.route(piece(100, inserted(2, "2", "a", "5")))
    router.route(piece(100, is_last=True))
    released = router.release("h", OLD_SNAPSHOT)
    assert appended_entries(released) == [("insert", "1", False), ("insert", "2", True)]


@pytest.mark.parametrize("rest", [(), (inserted(4, "3", "a", "5"),)])
def test_a_shape_released_within_a_transaction_is_marked_at_its_end(
    router: Router, rest: tuple[Change, ...]
) -> None:
    registered(router, "h")
    router.route(piece(100, inserted(0, "1", "a", "5"), inserted(2, "2", "a", "5")))
    released = appended_entries(router.release("h", OLD_SNAPSHOT))
    assert released == [("insert", "1", False)]
    everything = released + appended_entries(router.route(piece(100, *rest, is_last=True)))
    assert [is_last for *_, is_last in everything] == [False] * (len(everything) - 1) + [True]
    assert len(everything) == 2 + len(rest)


def test_a_transaction_that_the_snapshot_sees_is_dropped_in_all_its_pieces(router: Router) -> None:
    registered(router, "h")
    router.route(piece(100, inserted(0, "1", "a", "5"), xid=9))
    assert appended_entries(router.release("h", SnapshotVisibility(10, 12, (10,), 500))) == []
    assert appended_entries(router.route(piece(100, inserted(2, "2", "a", "5"), xid=9, is_last=True))) == []


def test_a_replayed_transaction_is_skipped(router: Router) -> None:
    live(router, "h")
    change = inserted(0, "1", "a", "5")
    router.route(transaction(100, change))
    router.route(transaction(200, change))
    assert appended_entries(router.route(transaction(100, change))) == []
    assert appended_entries(router.route(transaction(200, truncated(0)))) == []
    assert "h" in router
    assert appended_entries(router.route(transaction(300, change))) == [("insert", "1", True)]


def test_a_replayed_transaction_continues_after_its_last_change(router: Router) -> None:
    live(router, "h")
    changes = [inserted(op, str(op), "a", "5") for op in (0, 2, 4, 6)]
    before = appended_entries(router.route(piece(100, *changes[:2])))
    again = appended_entries(router.route(piece(100, *changes[:1])))
    across = appended_entries(router.route(piece(100, *changes[1:3])))
    end = appended_entries(router.route(piece(100, *changes[3:], is_last=True)))
    assert (before, again) == ([("insert", "0", False)], [])
    assert across + end == [("insert", "2", False), ("insert", "4", False), ("insert", "6", True)]


def test_a_replayed_end_with_nothing_new_still_ends_the_transaction(router: Router) -> None:
    live(router, "h")
    change = inserted(0, "1", "a", "5")
    assert appended_entries(router.route(piece(100, change))) == []
    assert appended_entries(router.route(transaction(100, change))) == [("insert", "1", True)]
    assert appended_entries(router.route(transaction(100, change))) == []


def test_buffered_changes_are_not_buffered_again(router: Router) -> None:
    registered(router, "h")
    first, second = inserted(0, "1", "a", "5"), inserted(2, "2", "a", "5")
    router.route(piece(100, first))
    router.route(transaction(100, first, second))
    assert appended_entries(router.release("h", OLD_SNAPSHOT)) == [
        ("insert", "1", False),
        ("insert", "2", True),
    ]


def test_a_truncate_ends_the_shapes_of_its_table_and_discards_their_messages(router: Router) -> None:
    live(router, "h")
    live(router, "high", where=HIGH)
    live(router, "other", relation(ID, oid=20, name="other"))
    changes = (
        inserted(0, "1", "a", "20"),
        inserted(2, "7", oid=20),
        truncated(4),
        inserted(6, "2", "a", "20"),
    )
    routed = router.route(transaction(100, *changes))
    assert sorted(routed.ended) == ["h", "high"]
    assert handles(routed) == {"other"}
    assert "h" not in router
    assert "high" not in router


def test_a_truncate_in_a_later_fragment_ends_a_shape_with_a_pending_message(router: Router) -> None:
    live(router, "h")
    router.route(piece(100, inserted(0, "1", "a", "5")))
    assert router.route(piece(100, truncated(2))).ended == ["h"]
    last = router.route(piece(100, inserted(4, "2", "a", "5"), is_last=True))
    assert (last.appends, last.ended) == ([], [])


def test_a_truncate_is_buffered_until_the_snapshot_is_known(router: Router) -> None:
    registered(router, "h")
    routed = router.route(transaction(100, inserted(0, "1", "a", "5"), truncated(2), xid=9))
    assert routed.ended == []
    router.route(transaction(200, inserted(0, "2", "a", "5"), xid=10))
    released = router.release("h", SnapshotVisibility(10, 12, (10,), 500))
    assert released.ended == []
    assert appended_entries(released) == [("insert", "2", True)]


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_buffered_truncate_that_the_snapshot_does_not_see_ends_the_shape(
    router: Router, pieces: int
) -> None:
    registered(router, "h")
    router.route(transaction(50, inserted(0, "0", "a", "5"), xid=8))
    changes = [inserted(0, "1", "a", "5"), truncated(2), inserted(4, "2", "a", "5")]
    for part in (changes[:1], changes[1:2])[: pieces - 1]:
        router.route(piece(100, *part, xid=9))
    router.route(piece(100, *changes[pieces - 1 :], xid=9, is_last=True))
    released = router.release("h", SnapshotVisibility(9, 12, (9,), 500))
    assert (released.appends, released.ended) == ([], ["h"])
    assert "h" not in router


def test_a_truncate_that_was_dropped_from_the_buffer_must_be_in_the_snapshot(router: Router) -> None:
    registered(router, "h")
    for lsn in range(100, 100 + BUFFER_LIMIT_BYTES // 200 + 1):
        router.route(transaction(lsn, truncated(0), xid=lsn))
    assert router.skip_until("h") == lsn
    assert router.is_complete("h", SnapshotVisibility(lsn + 1, lsn + 1, (), lsn), ())
    assert router.release("h", SnapshotVisibility(lsn + 1, lsn + 1, (), lsn)).ended == []


def test_a_truncate_that_the_snapshot_sees_ends_nothing(router: Router) -> None:
    registered(router, "h")
    router.release("h", SnapshotVisibility(10, 12, (10,), 500))
    assert router.route(transaction(300, truncated(0), xid=9)).ended == []
    assert router.route(transaction(400, truncated(0), xid=10)).ended == ["h"]


def test_a_truncate_of_a_leaf_ends_the_shapes_of_its_root(router: Router) -> None:
    live(router, "h", ROOT, leaves=[LEAF.oid])
    assert router.route(transaction(100, truncated(0, oid=LEAF.oid))).ended == ["h"]


def test_leaves_of_a_table_whose_last_shape_has_ended_are_not_adopted() -> None:
    router = new_router()
    registered(router, "h", ROOT)
    router.unregister("h")
    router.add_leaves(ROOT.oid, [LEAF.oid])
    assert router.leaves_of(ROOT.oid) == set()
