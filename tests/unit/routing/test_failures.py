"""What is raised for one shape or one relation ends that alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.seams.broken_clauses import break_clause
from tests.support.seams.routing_samples import (
    GRADE,
    ID,
    LEAF,
    ROOT,
    TITLE,
    announcement,
    appended_entries,
    handles,
    inserted,
    live,
    new_router,
    piece,
    registered,
    relation,
    transaction,
    truncated,
    updated,
)

from pgshapes.model.change import Row
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.failures import UnknownLayout
from pgshapes.routing.relation_shapes import RelationShapes
from pgshapes.routing.routed_shape import RoutedShape
from pgshapes.routing.router import Router
from pgshapes.routing.shape_index import ShapeIndex

OTHER = relation(ID, TITLE, GRADE, oid=12, name="others")


def router_with_broken(error: Exception | None = None) -> Router:
    router = new_router()
    live(router, "all")
    live(router, "grade", where="grade = 1")
    live(router, "broken", where="title LIKE 'x%'")
    live(router, "like", where="title LIKE 't%'")
    live(router, "other", OTHER)
    break_clause(router, "broken", error or TypeError("on purpose"))
    return router


def test_an_evaluation_that_raises_ends_its_shape_only() -> None:
    router = router_with_broken()
    routed = router.route(
        transaction(
            100, inserted(0, "1", "t", "1"), inserted(2, "2", "t", "1"), inserted(4, "3", "t", "1", oid=12)
        )
    )
    (failure,) = routed.failures
    assert (failure.handles, failure.key, str(failure.error)) == (
        ("broken",), '"public"."items"/"1"', "on purpose",
    )  # fmt: skip
    assert failure.error.__traceback__ is not None
    assert "broken" not in router
    assert handles(routed) == {"all", "grade", "like", "other"}
    for handle in ("all", "grade", "like"):
        assert appended_entries(routed, handle) == [("insert", "1", False), ("insert", "2", True)]
    assert router.route(transaction(200, inserted(0, "4", "t", "1"))).failures == []


def test_each_error_is_one_failure_however_many_shapes_share_the_clause() -> None:
    router = router_with_broken()
    live(router, "same", where="title LIKE 'x%'", columns=["id", "grade"])
    break_clause(router, "same", TypeError("on purpose"))
    routed = router.route(transaction(100, updated(0, ("1", "t", "1"), ("1", "t", "2"))))
    assert [sorted(failure.handles) for failure in routed.failures] == [["broken", "same"]]


def test_a_failure_in_the_middle_of_a_transaction_ends_the_shape() -> None:
    router = router_with_broken()
    router._relations[10]._evaluate = lambda matches, row: matches(row)
    first = router.route(piece(100, inserted(0, "1", "t", "1", oid=12)))
    last = router.route(piece(100, inserted(2, "2", "t", "1"), is_last=True))
    assert first.failures == [] and [each.handles for each in last.failures] == [("broken",)]
    assert appended_entries(last, "other") == [("insert", "1", True)]


def test_a_shape_whose_snapshot_contains_the_transaction_goes_on() -> None:
    router = router_with_broken()
    router._shapes["broken"].skip_until = 100
    assert router.route(transaction(100, inserted(0, "1", "t", "1"))).failures == []
    assert "broken" in router


def test_a_shape_that_is_being_created_ends() -> None:
    router = router_with_broken()
    registered(router, "new", where="title LIKE 'y%'")
    break_clause(router, "new", MemoryError())
    routed = router.route(transaction(100, inserted(0, "1", "t", "1")))
    assert {handle for failure in routed.failures for handle in failure.handles} == {"broken", "new"}


def test_a_recursion_error_is_evaluated_once_more_with_more_room() -> None:
    asked: list[Row] = []

    def evaluate(_: Callable[[Row], bool], row: Row) -> bool:
        asked.append(row)
        return True

    router = router_with_broken(RecursionError())
    router._relations[10]._evaluate = evaluate
    routed = router.route(transaction(100, inserted(0, "1", "t", "1")))
    assert asked == [("1", "t", "1")] and routed.failures == []
    assert appended_entries(routed, "broken") == [("insert", "1", True)]


def test_a_row_that_cannot_be_read_ends_the_shapes_of_its_table() -> None:
    router = router_with_broken()
    routed = router.route(transaction(100, inserted(0, "1"), inserted(2, "1", "t", "1", oid=12)))
    assert {handle for failure in routed.failures for handle in failure.handles} == {
        "all", "grade", "broken", "like",
    }  # fmt: skip
    assert handles(routed) == {"other"}


def test_a_truncate_is_no_failure() -> None:
    router = router_with_broken()
    routed = router.route(transaction(100, truncated(0)))
    assert sorted(routed.ended) == ["all", "broken", "grade", "like"] and routed.failures == []


def test_after_an_announcement_that_cannot_be_processed_no_row_is_read_until_the_next() -> None:
    """Its columns may have another order than the root's."""
    router = new_router()
    live(router, "h", ROOT, leaves=[LEAF.oid])
    router.fail_relation(LEAF.oid, ValueError("no columns"), is_announcement=True)
    assert [failure.handles for failure in router.take_failures().failures] == [("h",)]
    live(router, "again", ROOT, leaves=[LEAF.oid])
    (failure,) = router.route(transaction(100, inserted(0, "5", "1", "t", oid=LEAF.oid))).failures
    assert failure.handles == ("again",) and isinstance(failure.error, UnknownLayout)
    router.announce(announcement(LEAF))
    live(router, "last", ROOT, leaves=[LEAF.oid])
    routed = router.route(transaction(200, inserted(0, "5", "1", "t", oid=LEAF.oid)))
    assert appended_entries(routed, "last") == [("insert", "1", True)]


@pytest.mark.parametrize("method", ["delivered.add", "_delivery.new_changes"])
def test_what_concerns_all_shapes_is_raised_and_can_be_routed_again(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = router_with_broken()
    change = transaction(100, inserted(0, "1", "t", "1"))

    def fail(*_: object) -> None:
        raise MemoryError

    owner, _, name = method.rpartition(".")
    with monkeypatch.context() as patched:
        patched.setattr(getattr(router, owner), name, fail)
        with pytest.raises(MemoryError):
            router.route(change)
    routed = router.route(change)
    assert [failure.handles for failure in routed.failures] == [("broken",)]
    assert appended_entries(routed, "all") == [("insert", "1", True)]
    assert router.route(change).appends == []


def test_an_index_that_cannot_remove_a_shape_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    router = router_with_broken()
    index = router._relations[10]._index

    def fail(_: object) -> None:
        raise KeyError("on purpose")

    monkeypatch.setattr(index, "remove", fail)
    router.unregister("broken")
    routed = router.route(transaction(100, inserted(0, "1", "t", "1")))
    assert routed.failures == [] and handles(routed) == {"all", "grade", "like"}


def test_a_snapshot_that_sees_the_transaction_of_a_failure_keeps_the_shape() -> None:
    router = router_with_broken()
    router._shapes["broken"].phase = type(router._shapes["broken"].phase).FILTERING
    router._shapes["broken"].visibility = SnapshotVisibility(500, 500, (), 1_000)
    assert router.route(transaction(100, inserted(0, "1", "t", "1"))).failures == []


def test_a_shape_that_is_lost_with_the_removal_of_another_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is made anew after an error of the removal, and a shape cannot be added to it."""
    router = new_router()
    for handle, where in (("goes", "grade = 1"), ("lost", "grade = 2"), ("stays", "grade = 3")):
        live(router, handle, where=where)
    lost, add = router._shapes["lost"], RelationShapes._add_to_index

    def add_others(members: RelationShapes, shape: RoutedShape) -> None:
        if shape is lost:
            raise MemoryError("on purpose")
        add(members, shape)

    def fail(_: object, __: object) -> None:
        raise TypeError("on purpose")

    with monkeypatch.context() as patched:
        patched.setattr(RelationShapes, "_add_to_index", add_others)
        patched.setattr(ShapeIndex, "remove", fail)
        router.unregister("goes")
    routed = router.route(transaction(100, inserted(0, "1", "a", "2"), inserted(2, "2", "b", "3")))
    assert [failure.handles for failure in routed.failures] == [("lost",)]
    assert "lost" not in router and appended_entries(routed, "stays") == [("insert", "2", True)]


def test_the_last_shapes_of_a_table_are_lost_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is forgotten once."""
    router = new_router()
    live(router, "goes")
    live(router, "lost")

    def fail(*_: object) -> None:
        raise TypeError("on purpose")

    with monkeypatch.context() as patched:
        patched.setattr(RelationShapes, "_add_to_index", fail)
        patched.setattr(ShapeIndex, "remove", fail)
        router.unregister("goes")
    assert [failure.handles for failure in router.take_failures().failures] == [("lost",)]
    assert len(router) == 0 and router.table_oids() == set()
