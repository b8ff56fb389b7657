"""The transactions that alter a table, and the reasons to refuse it."""

from __future__ import annotations

import pytest

from pgshapes.errors import NotNow
from pgshapes.postgres.publication import Blocker, vacuumed_tables
from pgshapes.postgres.publication_rules import check_exists, find_publication_obstacle
from pgshapes.postgres.publication_sql import (
    Part,
    TableState,
    alterations,
    creation_statement,
    drop_from_publication,
)

NEW = TableState(
    relation_oid=1,
    schema="public",
    name="my items",
    kind="r",
    is_ours=True,
    has_publication=True,
    is_publication_ours=True,
    publishes_all_operations=True,
    publishes_generated=False,
    membership=None,
    narrowed=(),
    is_listed=False,
    publishes_via_root=False,
    is_partition=False,
    has_stored_generated=False,
    breaks_in=(),
    role="us",
    not_full=(Part("public", "my items", True),),
)
READY = NEW._replace(membership="7", is_listed=True, not_full=())


def steps(state: TableState) -> list[list[str]]:
    """The statements of each transaction, without its begin and end."""
    made = [transaction.split("; ") for transaction in alterations(state, "p")]
    for each in made:
        assert each[:2] == ["BEGIN READ WRITE", "SET LOCAL lock_timeout = 200"]
        assert each[-1] == "COMMIT"
    return [each[2:-1] for each in made]


def test_the_table_is_locked_before_it_is_added_and_after_its_identity_is_set() -> None:
    assert steps(NEW) == [
        ['ALTER TABLE ONLY "public"."my items" REPLICA IDENTITY FULL'],
        [
            "SET LOCAL statement_timeout = 150",
            'LOCK TABLE ONLY "public"."my items" IN SHARE MODE',
            "SET LOCAL statement_timeout = 50",
            'ALTER PUBLICATION "p" ADD TABLE ONLY "public"."my items"',
        ],
    ]


def test_no_transaction_holds_a_lock_while_it_waits_for_another() -> None:
    """Each leaf is altered on its own; a partitioned table is locked with its leaves within one timeout."""
    leaves = tuple(Part("public", f"leaf {number}", True) for number in range(3))
    *identities, adding = steps(NEW._replace(kind="p", not_full=leaves))
    assert [len(one) for one in identities] == [1, 1, 1]
    assert adding[1] == 'LOCK TABLE "public"."my items" IN SHARE MODE'
    assert adding[3] == 'ALTER PUBLICATION "p" ADD TABLE "public"."my items"'


def test_a_member_that_lacks_an_identity_gets_only_that() -> None:
    root = READY._replace(kind="p", not_full=(Part("public", "late leaf", True),))
    assert steps(root) == [['ALTER TABLE ONLY "public"."late leaf" REPLICA IDENTITY FULL']]


def test_generated_columns_are_published_before_the_identity_contains_them() -> None:
    first, *_ = steps(NEW._replace(has_stored_generated=True))
    assert first == ['ALTER PUBLICATION "p" SET (publish_generated_columns = stored)']
    assert not READY._replace(has_stored_generated=True).is_ready
    assert READY._replace(has_stored_generated=True, publishes_generated=True).is_ready


def test_readiness() -> None:
    assert READY.is_ready
    assert not NEW.is_ready
    assert not READY._replace(not_full=NEW.not_full).is_ready
    assert not READY._replace(membership=None).is_ready


def test_dropping_a_table() -> None:
    assert drop_from_publication(READY, "p").split("; ") == [
        "BEGIN READ WRITE",
        "SET LOCAL lock_timeout = 200",
        'ALTER PUBLICATION "p" DROP TABLE ONLY "public"."my items"',
        "COMMIT",
    ]


def test_a_new_publication_has_generated_columns_where_that_is_possible() -> None:
    assert creation_statement('a"b', 170004) == 'CREATE PUBLICATION "a""b"'
    assert creation_statement("a", 180000).endswith("WITH (publish_generated_columns = stored)")


ADD = 'ALTER PUBLICATION "p" ADD TABLE "public"."my items"'
FULL = 'ALTER TABLE ONLY "public"."my items" REPLICA IDENTITY FULL'
VIA_ROOT = READY._replace(publishes_via_root=True)
STORED = READY._replace(has_stored_generated=True)
BREAKING = NEW._replace(breaks_in=("theirs",))


@pytest.mark.parametrize(
    ("state", "is_manual", "text", "statement"),
    [
        (NEW, True, "MANUAL_TABLE_PUBLISHING", ADD),
        (NEW._replace(is_publication_ours=False), False, "lacks privileges to add it", FULL),
        (READY._replace(not_full=NEW.not_full), True, "replica identity set to FULL", FULL),
        (NEW._replace(is_ours=False), False, "must be owner of table my items", f"or: {ADD}"),
        (
            NEW._replace(not_full=(Part("s", "leaf", False),)),
            False,
            "must be owner of table leaf",
            'or: ALTER TABLE ONLY "s"."leaf" REPLICA IDENTITY FULL',
        ),
        (
            READY._replace(publishes_all_operations=False),
            False,
            "does not publish all required operations",
            "ALTER PUBLICATION \"p\" SET (publish = 'insert, update, delete, truncate')",
        ),
        (
            READY._replace(narrowed=("s.leaf",)),
            False,
            "row filter or a column list for the table s.leaf",
            'ALTER PUBLICATION "p" DROP TABLE s.leaf',
        ),
        (
            VIA_ROOT._replace(kind="p"),
            False,
            "publish_via_partition_root",
            'ALTER PUBLICATION "p" SET (publish_via_partition_root = false)',
        ),
        (
            VIA_ROOT._replace(is_partition=True),
            True,
            "publish_via_partition_root",
            'ALTER PUBLICATION "p" SET (publish_via_partition_root = false)',
        ),
        (
            STORED,
            True,
            "does not publish generated columns",
            'ALTER PUBLICATION "p" SET (publish_generated_columns = stored)',
        ),
        (
            BREAKING,
            False,
            'because of the publication "theirs"',
            'ALTER PUBLICATION "theirs" DROP TABLE "public"."my items"',
        ),
    ],
)
def test_a_refusal_says_why_and_what_to_run(
    state: TableState, is_manual: bool, text: str, statement: str
) -> None:
    found = find_publication_obstacle(state, "p", is_manual=is_manual)
    assert found is not None
    assert text in found.reason
    assert statement in found.statements


@pytest.mark.parametrize(
    ("state", "is_manual"),
    [
        (NEW, False),
        (READY, True),
        (VIA_ROOT, False),
        (STORED, False),
        (STORED._replace(publishes_generated=True), True),
        (BREAKING._replace(membership="7", not_full=()), False),
    ],
)
def test_nothing_else_is_refused(state: TableState, is_manual: bool) -> None:
    assert find_publication_obstacle(state, "p", is_manual=is_manual) is None


def test_a_missing_publication_is_waited_for() -> None:
    with pytest.raises(NotNow, match='Publication "p" not found in the database'):
        check_exists(READY._replace(has_publication=False), "p")


def test_only_a_table_that_nothing_but_an_autovacuum_has_locked_is_freed_from_it() -> None:
    writer, vacuum = Blocker(1, 2.0, False, "s.a"), Blocker(2, 900.0, True, "s.a")
    assert vacuumed_tables([vacuum, vacuum._replace(table="s.b")]) == {"s.a", "s.b"}
    assert vacuumed_tables([writer, vacuum]) == set()
