"""The transactions that alter a table, and the reasons to refuse them."""

from __future__ import annotations

import pytest

from pgshapes.errors import NotNow, PgShapesError
from pgshapes.postgres.publication import LOCK_TIMEOUT_MS, Blocker, next_lock_timeout_ms
from pgshapes.postgres.publication_sql import (
    Part,
    TableState,
    alteration_refusal,
    check_publication,
    create_publication,
    drop_from_publication,
    make_ready,
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
    publishes_parts_only=False,
    not_full=(Part("public", "my items", True),),
)
READY = NEW._replace(membership="7", not_full=())


def test_the_lock_comes_before_everything_that_it_guards() -> None:
    assert make_ready(NEW, "p", 200).split("; ") == [
        "BEGIN READ WRITE",
        "SET LOCAL lock_timeout = 200",
        'LOCK TABLE ONLY "public"."my items" IN SHARE MODE',
        'ALTER TABLE ONLY "public"."my items" REPLICA IDENTITY FULL',
        'ALTER PUBLICATION "p" ADD TABLE ONLY "public"."my items"',
        "COMMIT",
    ]


def test_a_partitioned_table_is_locked_with_its_leaves() -> None:
    root = NEW._replace(kind="p", not_full=(Part("public", "leaf", True),))
    steps = make_ready(root, "p", 200).split("; ")
    assert 'LOCK TABLE "public"."my items" IN SHARE MODE' in steps
    assert 'ALTER TABLE ONLY "public"."leaf" REPLICA IDENTITY FULL' in steps
    assert 'ALTER PUBLICATION "p" ADD TABLE "public"."my items"' in steps


def test_a_member_that_lacks_an_identity_gets_only_that() -> None:
    root = READY._replace(kind="p", not_full=(Part("public", "late leaf", True),))
    assert make_ready(root, "p", 200).split("; ")[2:-1] == [
        'ALTER TABLE ONLY "public"."late leaf" REPLICA IDENTITY FULL'
    ]


def test_readiness() -> None:
    assert READY.is_ready
    assert not NEW.is_ready
    assert not READY._replace(not_full=NEW.not_full).is_ready
    assert not READY._replace(membership=None).is_ready


def test_dropping_a_table() -> None:
    assert drop_from_publication(READY, "p", 200).split("; ") == [
        "BEGIN READ WRITE",
        "SET LOCAL lock_timeout = 200",
        'ALTER PUBLICATION "p" DROP TABLE ONLY "public"."my items"',
        "COMMIT",
    ]


def test_generated_columns_are_published_where_they_can_be() -> None:
    assert create_publication('a"b', 170004) == 'CREATE PUBLICATION "a""b"'
    assert create_publication("a", 180000).endswith("WITH (publish_generated_columns = stored)")


@pytest.mark.parametrize(
    ("state", "is_manual", "text"),
    [
        (NEW, False, None),
        (READY, True, None),
        (NEW, True, "MANUAL_TABLE_PUBLISHING"),
        (NEW._replace(is_publication_ours=False), False, "lacks privileges to add it"),
        (READY._replace(not_full=NEW.not_full), True, "does not have its replica identity set to FULL"),
        (
            NEW._replace(is_ours=False),
            False,
            "Unable to create initial snapshot: must be owner of table my items",
        ),
        (NEW._replace(not_full=(Part("s", "leaf", False),)), False, "must be owner of table leaf"),
    ],
)
def test_why_a_table_may_not_be_altered(state: TableState, is_manual: bool, text: str | None) -> None:
    refused = alteration_refusal(state, "p", is_manual=is_manual)
    if text is None:
        assert refused is None
    else:
        assert isinstance(refused, NotNow)
        assert text in refused.message


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (READY._replace(has_publication=False), 'Publication "p" not found in the database'),
        (READY._replace(publishes_all_operations=False), "does not publish all required operations"),
        (READY._replace(publishes_parts_only=True), "row filter or a column list"),
    ],
)
def test_what_is_wrong_with_a_publication(state: TableState, text: str) -> None:
    with pytest.raises(PgShapesError, match=text):
        check_publication(state, "p")


def test_only_an_autovacuum_is_waited_for_longer_than_deadlock_timeout() -> None:
    writer, vacuum = Blocker(1, 2.0, False), Blocker(2, 900.0, True)
    assert next_lock_timeout_ms([vacuum], deadlock_timeout_ms=1000) > 1000
    assert next_lock_timeout_ms([writer, vacuum], deadlock_timeout_ms=1000) == LOCK_TIMEOUT_MS
    assert next_lock_timeout_ms([], deadlock_timeout_ms=1000) == LOCK_TIMEOUT_MS
