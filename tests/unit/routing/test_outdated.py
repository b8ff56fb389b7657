"""A change that may have texts of older types than a shape's snapshot ends the shape; no other does."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.support.seams.routing_samples import (
    ITEMS,
    appended_entries,
    definition,
    handles,
    inserted,
    live,
    new_router,
    piece,
    registered,
    transaction,
    truncated,
)

from pgshapes.model.change import Change, Fragment
from pgshapes.model.relation import Column, Relation, TypeDetail
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.metering import OutOfTime
from pgshapes.routing.relation_shapes import RelationShapes
from pgshapes.routing.routed_shape import BUFFER_LIMIT_BYTES, Decision, RoutedShape
from pgshapes.routing.router import Router

MOODS = Relation(
    *ITEMS._replace(
        columns=tuple(
            one._replace(type_details=(TypeDetail(90, "e", ((1, "ok 700"),)),))
            if one.name == "title"
            else one
            for one in ITEMS.columns
        )
    )
)
"""A table whose column `title` has a type that can be altered."""

TYPES_SINCE = 400
SNAPSHOT = SnapshotVisibility(10, 12, (10,), 500)
"""It sees 9 and 11, and not 10 and 12."""


def at(lsn: int, *values: str | None) -> Change:
    """An inserted row at a position."""
    return inserted(0, *(values or ("1", "ok", "5")))._replace(lsn=lsn)


@pytest.fixture
def router() -> Router:
    """It has read the types at `TYPES_SINCE`."""
    made = new_router()
    made.types.note(MOODS, TYPES_SINCE)
    return made


def add(
    router: Router, handle: str = "h", *, columns: Iterable[str] | None = None, where: str | None = None
) -> None:
    """A shape with the snapshot."""
    registered(router, handle, MOODS, columns=columns, where=where)
    router.release(handle, SNAPSHOT)


@pytest.mark.parametrize(
    ("commit_lsn", "xid", "lsn", "is_outdated", "is_delivered"),
    [
        (600, 10, 399, True, False),
        (450, 10, 399, True, False),
        (600, 10, 400, False, True),
        (600, 10, 450, False, True),
        (600, 12, 599, False, True),
        (450, 11, 399, False, False),
        (450, 9, 100, False, False),
    ],
)
def test_the_rule(
    router: Router, commit_lsn: int, xid: int, lsn: int, is_outdated: bool, is_delivered: bool
) -> None:
    """The change is older than the types, and the snapshot does not have it."""
    add(router)
    routed = router.route(transaction(commit_lsn, at(lsn), xid=xid))
    assert list(routed.outdated) == ["h"] * is_outdated
    assert bool(appended_entries(routed)) is is_delivered
    assert ("h" in router) is not is_outdated


def test_only_shapes_that_the_change_affects_and_that_show_the_type(router: Router) -> None:
    add(router, "all")
    add(router, "id", columns=("id",))
    add(router, "matching", where="grade = 5")
    add(router, "other", where="grade = 6")
    routed = router.route(transaction(600, at(399), xid=10))
    assert sorted(routed.outdated) == ["all", "matching"]
    assert handles(routed) == {"id"}
    assert "other" in router


@pytest.mark.parametrize("where", ["title = 'fine'", "title = 'ok'"])
def test_a_clause_that_reads_the_type_cannot_tell_whether_the_row_matches(router: Router, where: str) -> None:
    add(router, columns=("id",), where=where)
    assert router.route(transaction(600, at(399), xid=10)).outdated == ["h"]


def test_such_a_clause_is_not_evaluated(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older text may be none of the type any more; that is no error of the clause."""
    add(router, "reads", where="title = 'fine'")
    add(router, "other", where="grade = 6")

    def is_left(self: RelationShapes, *_: object) -> None:
        assert list(self.members) == ["other"]

    monkeypatch.setattr(RelationShapes, "collect", is_left)
    routed = router.route(transaction(600, at(399), xid=10))
    assert (routed.outdated, routed.failures) == (["reads"], [])


def test_what_is_raised_for_one_shape_ends_that_alone(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(router, "fails")
    add(router, "outdated")
    add(router, "id", columns=("id",))
    decide, error = RoutedShape.decide, ValueError()

    def decide_others(shape: RoutedShape, xid: int, commit_lsn: int) -> Decision:
        if shape.handle == "fails":
            raise error
        return decide(shape, xid, commit_lsn)

    monkeypatch.setattr(RoutedShape, "decide", decide_others)
    routed = router.route(transaction(600, at(399), xid=10))
    assert [failure.handles for failure in routed.failures] == [("fails",)]
    assert routed.outdated == ["outdated"]
    assert handles(routed) == {"id"}


def test_changes_that_match_nothing_take_no_more_memory_than_the_buffer_may(router: Router) -> None:
    registered(router, "h", MOODS, where="title = 'ok'")
    for lsn in range(1, 2 + BUFFER_LIMIT_BYTES // 200):
        router.route(transaction(1000 + lsn, at(lsn, "1", "no", "5")))
    assert router.skip_until("h") == 1000 + lsn


def test_shapes_that_were_there_before_the_type_was_read_again(router: Router) -> None:
    """They were compared with it, and ended if it matters to them."""
    add(router, "before")
    router.types.note(Relation(*MOODS._replace(columns=tuple(map(changed, MOODS.columns)))), 550)
    assert not router.route(transaction(600, at(450), xid=10)).outdated


def changed(column: Column) -> Column:
    """The column with another state of its type."""
    details = tuple(one._replace(parts=((1, "fine 800"),)) for one in column.type_details)
    return column._replace(type_details=details)


def test_a_large_transaction_is_compared_change_by_change(router: Router) -> None:
    """What it wrote before is of other rows; nothing of it is delivered to a shape that ends."""
    add(router)
    add(router, "high", where="grade > 5")
    first, second = piece(600, at(300, "1", "ok", "5"), xid=10), at(399, "2", "ok", "9")._replace(op=2)
    assert router.route(first).outdated == ["h"]
    routed = router.route(piece(600, second, xid=10, is_last=True))
    assert (routed.outdated, routed.appends) == (["high"], [])


def test_a_step_that_ends_early_loses_no_shape_that_it_ended(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(router, "reads", where="title = 'fine'")
    add(router, "other")

    def stop(*_: object) -> None:
        raise OutOfTime

    with monkeypatch.context() as patched:
        patched.setattr(RelationShapes, "collect", stop)
        first = router.route(transaction(600, at(399), xid=10))
    assert first.rest is not None
    assert not first.appends
    assert [*first.outdated, *router.route(first.rest).outdated] == ["reads", "other"]


def test_a_truncate_ends_a_shape_for_its_own_reason(router: Router) -> None:
    add(router)
    routed = router.route(transaction(600, truncated(0)._replace(lsn=399), xid=10))
    assert not routed.outdated
    assert routed.ended == ["h"]


def buffered(lsn: int, *, xid: int = 10, values: tuple[str, ...] = ()) -> Fragment:
    return transaction(450, at(lsn, *values), xid=xid)


@pytest.mark.parametrize(
    ("fragment", "is_outdated"),
    [
        (buffered(399), True),
        (buffered(400), False),
        (buffered(399, xid=11), False),
        (buffered(399, values=("1", "no", "6")), True),
    ],
)
def test_a_change_that_arrives_before_the_snapshot(
    router: Router, fragment: Fragment, is_outdated: bool
) -> None:
    """The creation fails then, and is begun again by the client."""
    registered(router, "h", MOODS, where="title = 'ok'")
    assert not router.route(fragment).outdated
    released = router.release("h", SNAPSHOT)
    assert ("h" in router) is not is_outdated
    assert bool(released.appends) is (not is_outdated and fragment.xid == 10)


def test_the_types_of_the_snapshot_itself_may_be_the_first_reading() -> None:
    router = new_router()
    add(router)
    assert router.route(transaction(600, at(499), xid=10)).outdated == ["h"]


@pytest.mark.parametrize(("lsn", "is_outdated"), [(499, True), (500, False)])
def test_a_restored_shape_has_types_as_old_as_its_snapshot(
    router: Router, lsn: int, is_outdated: bool
) -> None:
    """How old they were is not stored."""
    router.restore("h", MOODS, definition(MOODS), None, SNAPSHOT, 300)
    router.restore("id", MOODS, definition(MOODS, ("id",)), None, SNAPSHOT, 300)
    routed = router.route(transaction(600, at(lsn), xid=10))
    assert list(routed.outdated) == ["h"] * is_outdated
    assert "id" in handles(routed)


def test_a_table_without_such_types_is_not_concerned() -> None:
    router = new_router()
    live(router, "h")
    registered(router, "new")
    assert appended_entries(router.route(transaction(600, at(1), xid=10))) == [("insert", "1", True)]
    assert appended_entries(router.release("new", SNAPSHOT), "new") == [("insert", "1", True)]


def test_a_shape_that_was_removed_is_forgotten(router: Router) -> None:
    registered(router, "h", MOODS)
    router.unregister("h")
    add(router, "another")
    assert not router.route(transaction(600, at(450), xid=10)).outdated
