"""What each URL is said to be good for."""

from __future__ import annotations

import pytest
from tests.unit.doctor.doctor_samples import CONNECTION, only

from pgshapes.doctor.connections import check_connections
from pgshapes.doctor.facts import ConnectionFacts, Pooling
from pgshapes.doctor.finding import Finding, Mark

REFUSED = CONNECTION._replace(replication_refusal="unsupported startup parameter: replication")


def of_direct(direct: ConnectionFacts) -> Finding:
    return only(list(check_connections(direct, None)))


def of_pooled(pooled: ConnectionFacts) -> Finding:
    return only(list(check_connections(CONNECTION, pooled)))


def test_a_direct_connection() -> None:
    found = list(check_connections(CONNECTION, None))
    assert {finding.mark for finding in found} == {Mark.WORKS}


@pytest.mark.parametrize("refusal", [None, "unsupported startup parameter: replication"])
def test_a_transaction_pooler_cannot_be_the_database(refusal: str | None) -> None:
    """Also one that lets a walsender through: the lock needs a session."""
    facts = CONNECTION._replace(pooling=Pooling.TRANSACTION, replication_refusal=refusal)
    finding = of_direct(facts)
    assert finding.mark is Mark.FAILS
    assert "good as pooled_database_url" in finding.text


def test_a_session_pooler() -> None:
    assert of_direct(REFUSED._replace(pooling=Pooling.SESSION)).mark is Mark.FAILS
    assert of_direct(CONNECTION._replace(pooling=Pooling.SESSION)).mark is Mark.WARNS


def test_replication_that_is_refused_by_postgres_itself() -> None:
    finding = of_direct(REFUSED._replace(replication_refusal="no pg_hba.conf entry"))
    assert finding.mark is Mark.FAILS and "no pg_hba.conf entry" in finding.text


@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_pooled_url_that_is_good(pooling: Pooling) -> None:
    found = list(check_connections(CONNECTION, CONNECTION._replace(pooling=pooling)))
    assert {finding.mark for finding in found} == {Mark.WORKS}


def test_a_pooled_url_of_another_database() -> None:
    assert "another database" in of_pooled(CONNECTION._replace(database=("start", 6))).text
    assert "another database" in of_pooled(CONNECTION._replace(database=("later", 5))).text
    assert "standby" in of_pooled(CONNECTION._replace(database=("later", 5), is_standby=True)).text


@pytest.mark.parametrize(
    ("local", "encrypted", "verified", "mark", "text"),
    [
        (True, False, False, Mark.WORKS, "does not leave this machine"),
        (True, True, False, Mark.WORKS, "does not leave this machine"),
        (False, True, True, Mark.WORKS, "certificate of the server was checked"),
        (False, True, False, Mark.WARNS, "sslmode=verify-full"),
        (False, False, False, Mark.WARNS, "not encrypted"),
    ],
)
def test_encryption(local: bool, encrypted: bool, verified: bool, mark: Mark, text: str) -> None:
    facts = CONNECTION._replace(is_local=local, is_encrypted=encrypted, is_verified=verified)
    (finding,) = [each for each in check_connections(facts, None) if each.subject == "SSL"]
    assert finding.mark is mark
    assert text in finding.text
