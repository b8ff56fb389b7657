"""What an announcement or the catalogue means for the shapes of a table, and how rows of
leaves and of changed tables are read.
"""

from __future__ import annotations

import pytest
from tests.support.seams.routing_samples import (
    GRADE,
    ID,
    ITEMS,
    LEAF,
    ROOT,
    TITLE,
    announcement,
    appended_entries,
    column,
    handles,
    inserted,
    live,
    new_router,
    parsed,
    piece,
    registered,
    relation,
    transaction,
    updated,
)

from pgshapes.errors import RequestError
from pgshapes.model.relation import Column, Part, Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing.router import Router
from pgshapes.where.clause import Clause

HIGH = "grade > 10"
WIDER = (ID, TITLE, GRADE, column("more"))
NARROWER = (ID, TITLE)
RETYPED = (ID, TITLE, column("grade", "int8"))
RENAMED = (ID, TITLE, column("mark"))
TURNED = (GRADE, TITLE, ID)


@pytest.fixture
def router() -> Router:
    return new_router()


@pytest.mark.parametrize(
    ("columns", "ended"),
    [
        ((ID, TITLE, GRADE), set()),
        (TURNED, {"all", "id", "grade", "clause"}),
        (WIDER, {"all"}),
        (NARROWER, {"all", "grade", "clause"}),
        (RETYPED, {"all", "grade", "clause"}),
        (RENAMED, {"all", "grade", "clause"}),
        ((ID, column("title", "int4"), GRADE), {"all"}),
        ((column("id", "int8", 0), TITLE, GRADE), {"all", "id", "grade", "clause"}),
    ],
)
def test_an_announcement_ends_the_shapes_whose_columns_it_touches(
    router: Router, columns: tuple[Column, ...], ended: set[str]
) -> None:
    live(router, "all")
    live(router, "id", columns=("id",))
    live(router, "grade", columns=("id", "grade"))
    live(router, "clause", columns=("id",), where=HIGH)
    assert set(router.announce(announcement(relation(*columns)))) == ended
    assert {one for one in ("all", "id", "grade", "clause") if one not in router} == ended


def test_a_renamed_table_ends_all_its_shapes(router: Router) -> None:
    live(router, "all")
    live(router, "id", columns=("id",))
    assert sorted(router.announce(announcement(ITEMS, name="things"))) == ["all", "id"]


def test_an_announcement_of_an_unknown_relation_ends_nothing(router: Router) -> None:
    live(router, "h")
    assert router.announce(announcement(relation(ID, oid=99, name="other"))) == []


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ((ID, GRADE), ("1", "30")),
        ((column("more"), ID, GRADE), ("9", "1", "30")),
    ],
)
def test_shapes_that_stay_read_rows_as_they_were_announced(
    router: Router, columns: tuple[Column, ...], row: tuple[str, ...]
) -> None:
    live(router, "h", columns=("id", "grade"), where=HIGH)
    assert router.announce(announcement(relation(*columns))) == []
    (append,) = router.route(transaction(100, inserted(0, *row))).appends
    message = parsed(append.entries[0])
    assert message["key"] == '"public"."items"/"1"'
    assert message["value"] == {"id": "1", "grade": "30"}


def test_a_shape_made_after_the_announcement_reads_rows_as_they_were_announced(router: Router) -> None:
    router.announce(announcement(relation(*TURNED)))
    live(router, "h", where=HIGH)
    routed = router.route(transaction(100, inserted(0, "30", "a", "1")))
    assert appended_entries(routed) == [("insert", "1", True)]


def test_rows_of_an_obsolete_layout_are_skipped(router: Router) -> None:
    router.announce(announcement(relation(*NARROWER)))
    live(router, "h")
    assert appended_entries(router.route(transaction(100, inserted(0, "1", "a")))) == []
    assert router.announce(announcement(ITEMS)) == []
    assert appended_entries(router.route(transaction(200, inserted(0, "2", "a", "5")))) == [
        ("insert", "2", True)
    ]


def test_a_shape_with_a_column_that_is_not_announced_yet_waits_for_it(router: Router) -> None:
    live(router, "old", columns=("id", "grade"))
    live(router, "new", relation(*WIDER))
    assert handles(router.route(transaction(100, inserted(0, "1", "a", "5")))) == {"old"}
    assert router.announce(announcement(relation(*WIDER))) == []
    routed = router.route(transaction(200, inserted(0, "2", "a", "5", "9")))
    assert handles(routed) == {"old", "new"}
    (entry,) = next(append for append in routed.appends if append.handle == "new").entries
    assert parsed(entry)["value"] == {"id": "2", "title": "a", "grade": "5", "more": "9"}
    router.unregister("new")
    assert handles(router.route(transaction(300, inserted(0, "3", "a", "5", "9")))) == {"old"}


def test_an_announcement_within_a_transaction_drops_the_rest_for_the_ended(router: Router) -> None:
    live(router, "all")
    live(router, "id", columns=("id",))
    router.route(piece(100, inserted(0, "1", "a", "5")))
    assert router.announce(announcement(relation(*WIDER))) == ["all"]
    routed = router.route(piece(100, inserted(2, "2", "a", "5", "9"), is_last=True))
    assert handles(routed) == {"id"}
    assert appended_entries(routed, "id") == [("insert", "1", False), ("insert", "2", True)]


def test_a_leafs_rows_are_brought_into_the_order_of_the_root(router: Router) -> None:
    live(router, "h", ROOT, where=HIGH, leaves=[LEAF.oid])
    assert router.announce(announcement(LEAF)) == []
    routed = router.route(transaction(100, updated(0, ("5", "1", "a"), ("30", "1", "b"), oid=LEAF.oid)))
    (append,) = routed.appends
    message = parsed(append.entries[0])
    assert message["key"] == '"public"."items"/"1"'
    assert message["value"] == {"id": "1", "title": "b", "grade": "30"}
    assert message["headers"]["relation"] == ["public", "items"]


@pytest.mark.parametrize("is_placed", [True, False])
def test_a_leaf_announced_before_it_was_added_is_reordered(router: Router, is_placed: bool) -> None:
    router.announce(announcement(LEAF))
    live(router, "h", ROOT, leaves=[] if is_placed else [LEAF.oid])
    if is_placed:
        assert router.set_ancestors(LEAF.oid, [ROOT.oid]) == []
    routed = router.route(transaction(100, inserted(0, "5", "1", "a", oid=LEAF.oid)))
    assert appended_entries(routed) == [("insert", "1", True)]


def test_leaves_with_different_column_orders(router: Router) -> None:
    live(router, "h", ROOT, leaves=[11, 12])
    router.announce(announcement(LEAF))
    router.announce(announcement(ROOT, oid=12, name="items_2"))
    changes = (inserted(0, "5", "1", "a", oid=11), inserted(2, "2", "a", "5", oid=12))
    assert appended_entries(router.route(transaction(100, *changes))) == [
        ("insert", "1", False),
        ("insert", "2", True),
    ]


def test_changes_of_a_leaf_with_its_own_shapes_are_routed_to_both(router: Router) -> None:
    live(router, "root", ROOT, leaves=[LEAF.oid])
    live(router, "leaf", LEAF)
    assert router.target_tables(LEAF.oid) == (LEAF.oid, ROOT.oid)
    routed = router.route(transaction(100, inserted(0, "5", "1", "a", oid=LEAF.oid)))
    assert handles(routed) == {"root", "leaf"}


def test_a_leaf_that_was_detached_ends_the_shapes_of_its_former_root(router: Router) -> None:
    live(router, "h", ROOT, leaves=[LEAF.oid])
    assert router.set_ancestors(LEAF.oid, []) == ["h"]
    assert not router.has_relation(LEAF.oid)


def test_the_end_of_a_leaf_ends_its_roots_shapes(router: Router) -> None:
    live(router, "h", ROOT, leaves=[LEAF.oid])
    assert router.has_partitioned()
    assert router.end_relation(LEAF.oid) == ["h"]
    assert not router.has_partitioned()


def test_columns_that_exchanged_their_names_end_the_shapes_that_need_them(router: Router) -> None:
    """The system catalogs may be newer than the announcement, and have the names as they were before."""
    one, two = GRADE, GRADE._replace(name="more")
    table = relation(ID, one, two)
    live(router, "all", table)
    live(router, "id", table, columns=("id",))
    assert router.announce(announcement(table)) == []
    assert router.announce(announcement(relation(ID, two, one))) == ["all"]
    live(router, "after", relation(ID, two, one))
    assert router.announce(announcement(relation(ID, two, one))) == []


def test_a_column_that_was_added_or_dropped_exchanges_no_names(router: Router) -> None:
    live(router, "listed", ITEMS, columns=("id", "grade"))
    assert router.announce(announcement(relation(*WIDER))) == []
    assert router.announce(announcement(relation(ID, GRADE))) == []


def test_names_exchanged_in_a_leaf_end_the_shapes_of_the_root(router: Router) -> None:
    one, two = GRADE, GRADE._replace(name="more")
    root, leaf = relation(ID, one, two, kind="p"), relation(two, ID, one, oid=11, name="leaf")
    live(router, "all", root, leaves=(11,))
    live(router, "id", root, columns=("id",), leaves=(11,))
    assert router.announce(announcement(leaf)) == []
    assert router.announce(announcement(leaf)) == []
    assert router.announce(announcement(relation(one, ID, two, oid=11, name="leaf"))) == ["all"]


def test_a_leaf_is_compared_with_what_the_shape_knows_of_it(router: Router) -> None:
    """The announcement before may be older than the exchange, and the shape newer."""
    one, two = GRADE, GRADE._replace(name="more")
    before, after = (relation(*order, oid=11, name="leaf") for order in ((ID, one, two), (ID, two, one)))

    def known(*parts: Part, generation: int) -> Relation:
        return Relation(*relation(ID, one, two, kind="p")._replace(parts=parts, generation=generation))

    old = known(Part(11, "5", 100), generation=1)
    new = known(Part(11, "5", 100, columns=("id", "more", "grade")), generation=2)
    live(router, "old", old, leaves=(11,))
    assert router.announce(announcement(before)) == []
    live(router, "new", new, leaves=(11,))
    assert router.announce(announcement(after)) == ["old"]
    assert router.announce(announcement(before)) == ["new"], "exchanged, and exchanged again"


def test_a_clause_that_cannot_be_compiled_ends_its_shape_only(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error there would stop the stream for all shapes."""
    live(router, "plain", columns=("id",))
    live(router, "clause", columns=("id",), where=HIGH)

    def refuse(*_: object) -> None:
        raise RequestError("no such operator")

    monkeypatch.setattr(Clause, "compile", refuse)
    assert router.announce(announcement(relation(*WIDER))) == ["clause"]
    assert "clause" not in router
    with pytest.raises(RequestError):
        live(router, "new", columns=("id",), where=HIGH)
    assert "new" not in router
    router.unregister("plain")
    assert not router.has_relation(ITEMS.oid)
    with pytest.raises(RequestError):
        live(router, "new", columns=("id",), where=HIGH)
    assert not router.has_relation(ITEMS.oid)


def test_an_announcement_before_the_snapshot_does_not_end_the_shape(router: Router) -> None:
    """The stream may be behind: it announces the table as it was before the DDL that a snapshot has seen."""
    router.announce(announcement(ITEMS))
    live(router, "before")
    wider = relation(*WIDER)
    seen = SnapshotVisibility(300, 300, (), 3000)
    for handle, columns in (("all", None), ("more", ("id", "more"))):
        registered(router, handle, wider, columns=columns)
        router.release(handle, seen)
    registered(router, "buffering", wider)
    assert router.announce(announcement(ITEMS), (200, 1000)) == []
    routed = router.route(transaction(1000, inserted(0, "1", "a", "1"), xid=200))
    assert {append.handle for append in routed.appends} == {"before"}
    assert router.announce(announcement(wider), (400, 4000)) == ["before"]
    routed = router.route(transaction(4000, inserted(0, "2", "a", "1", "9"), xid=400))
    assert {append.handle for append in routed.appends} == {"all", "more"}
    assert parsed(routed.appends[0].entries[0])["value"]["more"] == "9"


def test_shapes_of_the_old_and_the_new_name_have_their_own_keys(router: Router) -> None:
    """A table that was renamed; the shape of its old name is not ended yet."""
    root = relation(ID, GRADE, kind="p")
    live(router, "old", root, leaves=(11,))
    renamed = Relation(*root._replace(name="renamed", generation=2))
    live(router, "new", renamed, leaves=(11,))
    routed = router.route(transaction(100, inserted(0, "1", "5", oid=11)))
    keys = {append.handle: parsed(append.entries[0])["key"] for append in routed.appends}
    assert keys == {"old": '"public"."items"/"1"', "new": '"public"."renamed"/"1"'}


def test_a_rename_ends_the_shapes_of_the_old_name_only(router: Router) -> None:
    live(router, "old")
    live(router, "new", Relation(*ITEMS._replace(name="renamed", generation=2)))
    assert router.announce(announcement(ITEMS, name="renamed")) == ["old"]
