"""Checks of the connections: what each URL is good for, and whether others can read it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgshapes.doctor.facts import ConnectionFacts, Pooling
from pgshapes.doctor.finding import Finding, fails, warns, works

DIRECT: Final = "database_url"
POOLED: Final = "pooled_database_url"


def check_connections(direct: ConnectionFacts, pooled: ConnectionFacts | None) -> Iterator[Finding]:
    """What the URLs can be used for."""
    yield _direct(direct)
    yield _encryption(DIRECT, direct)
    if pooled is not None:
        yield _pooled(direct, pooled)
        yield _encryption(POOLED, pooled)


def _direct(facts: ConnectionFacts) -> Finding:
    refusal = facts.replication_refusal
    if facts.pooling is Pooling.TRANSACTION:
        said = f" ({refusal})" if refusal else ""
        return fails(
            DIRECT,
            f"{facts.host} is a pooler in transaction mode{said}: it is good as {POOLED}, for snapshots and"
            f" subset queries; set {DIRECT} to the address of Postgres itself",
        )
    if facts.pooling is Pooling.SESSION and refusal is not None:
        return fails(
            DIRECT,
            f"{facts.host} is a proxy that cannot replicate ({refusal}): it is good as {POOLED}; set"
            f" {DIRECT} to the address of Postgres itself",
        )
    if refusal is not None:
        return fails(DIRECT, f"{facts.host} refuses a replication connection: {refusal}")
    if facts.pooling is Pooling.SESSION:
        text = "is a proxy that keeps sessions and can replicate: a direct connection has fewer ways to fail"
        return warns(DIRECT, f"{facts.host} {text}")
    return works(DIRECT, f"{facts.host} is Postgres itself: good for replication and for snapshots")


def _pooled(direct: ConnectionFacts, pooled: ConnectionFacts) -> Finding:
    if pooled.is_standby and not direct.is_standby:
        return fails(POOLED, f"{pooled.host} leads to a standby: snapshots are taken on the primary")
    if pooled.database != direct.database:
        return fails(POOLED, f"{pooled.host} leads to another database than {DIRECT}")
    kind = {
        Pooling.NONE: "Postgres itself",
        Pooling.SESSION: "a proxy that keeps sessions",
        Pooling.TRANSACTION: "a pooler in transaction mode",
    }[pooled.pooling]
    return works(POOLED, f"{pooled.host} is {kind}: good for snapshots and subset queries")


def _encryption(name: str, facts: ConnectionFacts) -> Finding:
    subject = "SSL" if name == DIRECT else "SSL, pooled"
    if facts.is_encrypted and facts.is_verified:
        return works(subject, "encrypted, and the certificate of the server was checked")
    if facts.is_local:
        kind = "encrypted" if facts.is_encrypted else "not encrypted"
        return works(subject, f"{kind}; the connection does not leave this machine")
    if facts.is_encrypted:
        text = "encrypted, but anybody could have answered: set sslmode=verify-full in"
    else:
        text = "not encrypted: rows can be read on the way; set sslmode=verify-full in"
    return warns(subject, f"{text} {name}, with sslrootcert=system or the file of the CA")
