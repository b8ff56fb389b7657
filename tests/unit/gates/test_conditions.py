"""The level, the status and the message that follow from rows of `status`."""

from __future__ import annotations

import pytest

from pgshapes.gates.conditions import (
    Condition,
    Conditions,
    Level,
    ServiceStatus,
    level_of,
    service_status_of,
    timeout_text,
)
from pgshapes.tables.tables import Tables


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def conditions(tables: Tables) -> Conditions:
    return Conditions(tables.status)


def meet_all_but(conditions: Conditions, *unmet: Condition) -> None:
    for condition in Condition:
        if condition not in unmet:
            conditions.meet(condition)


def test_there_are_nine_conditions() -> None:
    assert len(Condition) == 9


def test_nothing_is_met_at_first(tables: Tables) -> None:
    assert level_of(tables.status) is Level.STARTING
    assert service_status_of(tables.status) is ServiceStatus.STARTING


def test_the_service_is_active_when_all_conditions_are_met(tables: Tables, conditions: Conditions) -> None:
    meet_all_but(conditions)
    assert level_of(tables.status) is Level.ACTIVE
    assert service_status_of(tables.status) is ServiceStatus.ACTIVE


TEXTS = {
    Condition.LOCK_ACQUIRED: "Timeout waiting for Postgres lock acquisition",
    Condition.REPLICATION_CLIENT_READY: (
        "Timeout waiting for replication client to be ready. Check that you don't have pending transactions "
        "in the database. Electric has to wait for all pending transactions to commit or rollback before it "
        "can create the replication slot."
    ),
    Condition.ADMIN_POOL_READY: "Timeout waiting for database connection pool (metadata) to be ready",
    Condition.SNAPSHOT_POOL_READY: "Timeout waiting for database connection pool (snapshot) to be ready",
    Condition.SHAPE_METADATA_READY: "Timeout waiting for shape metadata to be loaded",
    Condition.LOG_COLLECTOR_READY: "Timeout waiting for shape data to be loaded",
    Condition.SUPERVISOR_PROCESSES_READY: "Timeout waiting for stack restart",
    Condition.INTEGRITY_CHECKS_PASSED: "Timeout waiting for integrety checks",
}


@pytest.mark.parametrize("unmet", TEXTS)
def test_the_service_is_not_active_with_one_unmet_condition(
    tables: Tables, conditions: Conditions, unmet: Condition
) -> None:
    meet_all_but(conditions, unmet)
    metadata_is_missing = unmet is Condition.SHAPE_METADATA_READY
    assert level_of(tables.status) is (Level.STARTING if metadata_is_missing else Level.READ_ONLY)
    conditions.meet(unmet)
    assert level_of(tables.status) is Level.ACTIVE
    conditions.unmeet(unmet)
    assert level_of(tables.status) is not Level.ACTIVE


def test_the_status_is_waiting_without_the_lock(tables: Tables, conditions: Conditions) -> None:
    conditions.meet(Condition.SHAPE_METADATA_READY)
    assert service_status_of(tables.status) is ServiceStatus.WAITING
    conditions.meet(Condition.CHANGES_FLOWING)
    assert service_status_of(tables.status) is ServiceStatus.WAITING
    conditions.meet(Condition.LOCK_ACQUIRED)
    assert service_status_of(tables.status) is ServiceStatus.STARTING


def test_the_status_is_waiting_at_a_first_start_without_the_lock(
    tables: Tables, conditions: Conditions
) -> None:
    conditions.meet(Condition.CHANGES_FLOWING)
    assert service_status_of(tables.status) is ServiceStatus.STARTING
    conditions.unmeet(Condition.LOCK_ACQUIRED)
    assert service_status_of(tables.status) is ServiceStatus.WAITING
    assert level_of(tables.status) is Level.STARTING
    assert timeout_text(tables.status) == TEXTS[Condition.LOCK_ACQUIRED]
    conditions.meet(Condition.LOCK_ACQUIRED)
    assert service_status_of(tables.status) is ServiceStatus.STARTING


def test_the_status_is_waiting_while_changes_do_not_arrive(tables: Tables, conditions: Conditions) -> None:
    """Known shapes are served and new ones created all the same."""
    meet_all_but(conditions)
    conditions.unmeet(Condition.CHANGES_FLOWING, "the storage directory is full")
    assert service_status_of(tables.status) is ServiceStatus.WAITING
    assert level_of(tables.status) is Level.ACTIVE
    assert timeout_text(tables.status) == "Timeout waiting for stack restart"


def test_the_status_is_waiting_during_a_start_that_waits(tables: Tables, conditions: Conditions) -> None:
    conditions.unmeet(Condition.CHANGES_FLOWING, "the database")
    assert level_of(tables.status) is Level.STARTING
    assert service_status_of(tables.status) is ServiceStatus.WAITING
    conditions.meet(Condition.CHANGES_FLOWING)
    assert service_status_of(tables.status) is ServiceStatus.STARTING


def test_a_process_without_an_owner_is_read_only(tables: Tables, conditions: Conditions) -> None:
    meet_all_but(conditions)
    assert level_of(tables.status, is_following=False) is Level.READ_ONLY
    assert service_status_of(tables.status, is_following=False) is ServiceStatus.STARTING
    assert timeout_text(tables.status) == "Timeout waiting for stack restart"


@pytest.mark.parametrize("unmet", TEXTS)
def test_each_unmet_condition_has_its_text(tables: Tables, conditions: Conditions, unmet: Condition) -> None:
    meet_all_but(conditions, unmet)
    assert timeout_text(tables.status) == TEXTS[unmet]


@pytest.mark.parametrize("unmet", TEXTS)
def test_a_recorded_error_is_in_the_message(tables: Tables, conditions: Conditions, unmet: Condition) -> None:
    meet_all_but(conditions, unmet)
    conditions.unmeet(unmet, "wal_level is replica")
    expected = TEXTS[unmet].split(". Check that")[0]
    assert timeout_text(tables.status) == f"{expected}: wal_level is replica"


def test_the_message_names_the_first_unmet_condition(tables: Tables, conditions: Conditions) -> None:
    for condition, text in TEXTS.items():
        assert timeout_text(tables.status) == text
        conditions.meet(condition)
