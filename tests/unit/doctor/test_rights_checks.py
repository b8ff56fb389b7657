"""What is said about the role and the publication."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.doctor.doctor_samples import FACTS, NEEDS, PUBLICATION, ROLE, SERVER, SLOT, only

from pgshapes.doctor.checks import check_database
from pgshapes.doctor.facts import Facts, Needs
from pgshapes.doctor.finding import Mark

ON_18 = FACTS._replace(server=SERVER._replace(version_number=180001))
MANUAL = NEEDS._replace(is_manual=True)


def marks(facts: Facts, needs: Needs = NEEDS) -> set[Mark]:
    return {finding.mark for finding in check_database(facts, needs)}


@pytest.mark.parametrize(
    "rights",
    [
        {"is_superuser": True, "may_replicate": True},
        {"may_replicate": True},
        {"may_replicate": False, "is_rds_replication": True},
    ],
)
def test_rights_that_suffice(rights: dict[str, Any]) -> None:
    assert marks(FACTS._replace(role=ROLE._replace(**rights))) == {Mark.WORKS}


@pytest.mark.parametrize(
    ("provider", "role", "statement", "who"),
    [
        (None, {}, 'ALTER ROLE "sync" WITH REPLICATION;', "as a superuser"),
        ("rds_superuser", {}, 'GRANT rds_replication TO "sync";', "as the master user"),
        (
            "cloudsqlsuperuser",
            {"is_cloudsqlsuperuser": True},
            'ALTER ROLE "sync" WITH REPLICATION;',
            "as this role itself",
        ),
        ("azure_pg_admin", {}, 'ALTER ROLE "sync" WITH REPLICATION;', "as a member of azure_pg_admin"),
    ],
)
def test_no_replication(provider: str | None, role: dict[str, Any], statement: str, who: str) -> None:
    facts = FACTS._replace(
        server=SERVER._replace(provider=provider), role=ROLE._replace(may_replicate=False, **role)
    )
    finding = only(check_database(facts, NEEDS))
    assert (finding.mark, finding.sql) == (Mark.FAILS, (statement,))
    assert who in finding.text


def test_a_publication_that_will_be_created() -> None:
    assert marks(FACTS._replace(publication=None)) == {Mark.WORKS}


def test_a_publication_that_may_not_be_created() -> None:
    facts = FACTS._replace(publication=None, role=ROLE._replace(may_create=False))
    assert only(check_database(facts, NEEDS)).sql == ('GRANT CREATE ON DATABASE "app" TO "sync";',)


def test_a_publication_that_has_to_be_there() -> None:
    finding = only(check_database(FACTS._replace(publication=None), MANUAL))
    assert finding.sql == ('CREATE PUBLICATION "electric_publication_default";',)
    (statement,) = only(check_database(ON_18._replace(publication=None), MANUAL)).sql
    assert statement.endswith("WITH (publish_generated_columns = stored);")


def test_a_publication_of_another_owner() -> None:
    facts = FACTS._replace(publication=PUBLICATION._replace(is_ours=False, owner="admin"))
    finding = only(check_database(facts, NEEDS))
    assert finding.sql == ('ALTER PUBLICATION "electric_publication_default" OWNER TO "sync";',)
    assert marks(facts, MANUAL) == {Mark.WORKS}


@pytest.mark.parametrize(
    ("changed", "mark", "statement"),
    [
        ({"not_published": ("truncate",)}, Mark.FAILS, "(publish = 'insert, update, delete, truncate');"),
    ],
)
def test_operations_of_the_publication(changed: dict[str, Any], mark: Mark, statement: str) -> None:
    facts = ON_18._replace(publication=PUBLICATION._replace(**changed))
    finding = only(check_database(facts, NEEDS))
    assert finding.mark is mark
    assert finding.sql == (f'ALTER PUBLICATION "electric_publication_default" SET {statement}',)


@pytest.mark.parametrize("changed", [{"is_all_tables": True}, {"schemas": ("public",)}])
def test_publications_of_more_than_tables(changed: dict[str, Any]) -> None:
    facts = FACTS._replace(publication=PUBLICATION._replace(**changed))
    assert only(check_database(facts, NEEDS)).mark is Mark.WARNS


def test_the_creation_of_a_slot_may_take_longer() -> None:
    role = ROLE._replace(may_log_snapshots=False)
    finding = only(check_database(FACTS._replace(role=role, slots=()), NEEDS))
    assert "pg_log_standby_snapshot() TO" in finding.sql[0]
    assert marks(FACTS._replace(role=role, slots=(SLOT,))) == {Mark.WORKS}
