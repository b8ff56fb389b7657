"""What is said about the server, its slots and its open transactions."""

from __future__ import annotations

import pytest
from tests.unit.doctor.doctor_samples import FACTS, NEEDS, ROLE, SERVER, SLOT, only

from pgshapes.doctor.checks import check_database
from pgshapes.doctor.facts import OpenTransaction, ServerFacts, SlotFacts
from pgshapes.doctor.finding import Finding, Mark

GB = 2**30


def of_server(server: ServerFacts) -> Finding:
    return only(check_database(FACTS._replace(server=server), NEEDS))


def test_nothing_is_wrong_with_a_database_that_is_right() -> None:
    assert {finding.mark for finding in check_database(FACTS, NEEDS)} == {Mark.WORKS}


def test_an_old_server() -> None:
    finding = of_server(SERVER._replace(version_number=130012, version="13.12"))
    assert (finding.mark, finding.subject) == (Mark.FAILS, "version")
    assert "use Postgres 14 or newer" in finding.text


@pytest.mark.parametrize("level", ["minimal", "replica"])
def test_a_wal_level(level: str) -> None:
    finding = of_server(SERVER._replace(wal_level=level))
    assert (finding.mark, finding.sql) == (Mark.FAILS, ("ALTER SYSTEM SET wal_level = 'logical';",))
    assert level in finding.text and "restart" in finding.text


@pytest.mark.parametrize(
    ("provider", "setting"),
    [
        ("rds_superuser", "rds.logical_replication"),
        ("cloudsqlsuperuser", "cloudsql.logical_decoding"),
        ("azure_pg_admin", "wal_level = logical"),
        ("neon_superuser", "settings of the project"),
    ],
)
def test_a_wal_level_where_alter_system_is_not_allowed(provider: str, setting: str) -> None:
    finding = of_server(SERVER._replace(wal_level="replica", provider=provider))
    assert finding.sql == () and setting in finding.text


def test_a_standby_names_its_primary() -> None:
    finding = of_server(SERVER._replace(is_standby=True, primary_address="10.0.0.7:5432"))
    assert finding.mark is Mark.FAILS and "primary at 10.0.0.7" in finding.text


def test_an_encoding() -> None:
    assert of_server(SERVER._replace(encoding="LATIN1")).subject == "encoding"


@pytest.mark.parametrize(
    ("source", "statement"),
    [
        ("user", 'ALTER ROLE "sync" RESET default_transaction_read_only;'),
        ("database", 'ALTER DATABASE "app" RESET default_transaction_read_only;'),
        ("database user", 'ALTER ROLE "sync" IN DATABASE "app" RESET default_transaction_read_only;'),
        (
            "configuration file",
            "ALTER SYSTEM SET default_transaction_read_only = off; SELECT pg_reload_conf();",
        ),
    ],
)
def test_a_read_only_default_is_cured_where_it_was_set(source: str, statement: str) -> None:
    finding = of_server(SERVER._replace(is_read_only=True, read_only_source=source))
    assert (finding.mark, finding.sql) == (Mark.WARNS, (statement,))


def test_a_read_only_default_of_the_client() -> None:
    finding = of_server(SERVER._replace(is_read_only=True, read_only_source="client"))
    assert finding.sql == () and "PGOPTIONS" in finding.text


def test_few_connections_are_a_warning() -> None:
    finding = of_server(SERVER._replace(used_connections=90))
    assert (finding.mark, finding.subject) == (Mark.WARNS, "connections")


def test_retention_that_is_short() -> None:
    assert of_server(SERVER._replace(max_slot_wal_keep=64 * 2**20)).mark is Mark.WARNS
    rest = check_database(FACTS._replace(server=SERVER._replace(max_slot_wal_keep=10 * GB)), NEEDS)
    assert {finding.mark for finding in rest} == {Mark.WORKS}
    assert any("10 GB" in finding.text for finding in rest)


def test_slots_that_are_lost_when_idle() -> None:
    finding = of_server(SERVER._replace(idle_slot_timeout_s=3600))
    assert finding.mark is Mark.WARNS and "60 min" in finding.text


@pytest.mark.parametrize("timeout_s", [0.0, 2.0])
def test_a_sender_timeout(timeout_s: float) -> None:
    assert of_server(SERVER._replace(sender_timeout_s=timeout_s)).subject == "wal_sender_timeout"


# --- slots


def of_slots(*slots: SlotFacts, server: ServerFacts = SERVER) -> Finding:
    return only(check_database(FACTS._replace(slots=slots, server=server), NEEDS))


OTHER = SLOT._replace(name="other", active_pid=7)


def test_no_slot_is_left() -> None:
    finding = of_slots(
        OTHER, OTHER._replace(name="idle", active_pid=None), server=SERVER._replace(used_slots=10)
    )
    assert (finding.mark, finding.subject) == (Mark.FAILS, "slots")
    assert finding.sql == ("ALTER SYSTEM SET max_replication_slots = 15;",)
    assert "not in use now: idle" in finding.text


def test_a_full_server_that_has_our_slot() -> None:
    found = check_database(FACTS._replace(server=SERVER._replace(used_slots=10)), NEEDS)
    assert {finding.mark for finding in found} == {Mark.WORKS}


def test_no_walsender_is_left() -> None:
    finding = of_slots(SLOT, server=SERVER._replace(used_senders=10))
    assert finding.sql == ("ALTER SYSTEM SET max_wal_senders = 15;",)


def test_the_last_walsender_may_be_ours() -> None:
    found = check_database(
        FACTS._replace(slots=(SLOT._replace(active_pid=3),), server=SERVER._replace(used_senders=10)), NEEDS
    )
    assert {finding.mark for finding in found} == {Mark.WORKS}


@pytest.mark.parametrize(
    ("slot", "mark", "text"),
    [
        (SLOT._replace(is_in_this_database=False, database="x"), Mark.FAILS, "in database x"),
        (SLOT._replace(plugin="wal2json"), Mark.FAILS, "wal2json"),
        (SLOT._replace(plugin=None, is_in_this_database=False), Mark.FAILS, "physical replication"),
        (SLOT._replace(wal_status="lost"), Mark.WARNS, "has lost its WAL"),
        (SLOT._replace(wal_status="unreserved"), Mark.WARNS, "lost at the next checkpoint"),
        (SLOT._replace(is_two_phase=True), Mark.WARNS, "two_phase"),
        (SLOT._replace(retained=3 * GB), Mark.WARNS, "retains 3 GB"),
    ],
)
def test_our_slot(slot: SlotFacts, mark: Mark, text: str) -> None:
    finding = of_slots(slot)
    assert (finding.mark, finding.subject) == (mark, "slot")
    assert text in finding.text


def test_a_forgotten_slot_that_fills_the_disk() -> None:
    finding = of_slots(SLOT, OTHER._replace(name="it's", active_pid=None, retained=5 * GB))
    assert finding.sql == ("SELECT pg_drop_replication_slot('it''s');",)


def test_a_busy_slot_of_others_is_their_business() -> None:
    found = check_database(FACTS._replace(slots=(SLOT, OTHER._replace(retained=5 * GB))), NEEDS)
    assert {finding.mark for finding in found} == {Mark.WORKS}


# --- open transactions

OPEN = OpenTransaction(pid=42, gid=None, age_s=90.0, owner="web", database="app")
PREPARED = OPEN._replace(pid=None, gid="it's", age_s=1.0)


def of_transactions(*transactions: OpenTransaction, has_slot: bool) -> Finding:
    slots = (SLOT,) if has_slot else ()
    return only(check_database(FACTS._replace(slots=slots, transactions=transactions), NEEDS))


def test_a_long_transaction() -> None:
    finding = of_transactions(OPEN, has_slot=False)
    assert (finding.mark, finding.sql) == (Mark.WARNS, ("SELECT pg_terminate_backend(42);",))
    assert "for 90 s" in finding.text and "creation of the slot" in finding.text
    assert "first shape" in of_transactions(OPEN, has_slot=True).text


def test_a_prepared_transaction_blocks_a_new_slot_for_good() -> None:
    finding = of_transactions(PREPARED, has_slot=False)
    assert finding.mark is Mark.FAILS
    assert finding.sql == ("COMMIT PREPARED 'it''s'; -- or ROLLBACK PREPARED 'it''s';",)
    assert of_transactions(PREPARED, has_slot=True).mark is Mark.WARNS


def test_young_transactions_are_not_reported() -> None:
    transactions = (OPEN._replace(age_s=0.1), OPEN._replace(age_s=None))
    found = check_database(FACTS._replace(transactions=transactions), NEEDS)
    assert {finding.mark for finding in found} == {Mark.WORKS}
    assert any("pg_read_all_stats shows 1 more" in finding.text for finding in found)


def test_many_long_transactions() -> None:
    found = check_database(FACTS._replace(transactions=(OPEN,) * 8), NEEDS)
    warnings = [finding.text for finding in found if finding.mark is Mark.WARNS]
    assert len(warnings) == 6 and "3 more" in warnings[-1]


def test_names_are_quoted() -> None:
    role = ROLE._replace(name='a"b', database="c\x1bd", may_replicate=False)
    finding = only(check_database(FACTS._replace(role=role), NEEDS))
    assert finding.sql == ('ALTER ROLE "a""b" WITH REPLICATION;',)
    role = role._replace(may_replicate=True, may_create=False)
    finding = only(check_database(FACTS._replace(role=role, publication=None), NEEDS))
    assert finding.sql == ('GRANT CREATE ON DATABASE U&"c\\+00001bd" TO "a""b";',)
