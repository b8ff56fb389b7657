"""All checks except those of tables and connections, in the order of the output. Pure."""

from __future__ import annotations

from pgshapes.doctor.facts import Facts, Needs
from pgshapes.doctor.finding import Finding
from pgshapes.doctor.replication import check_replication
from pgshapes.doctor.rights import check_rights
from pgshapes.doctor.server import check_retention, check_server


def check_database(facts: Facts, needs: Needs) -> list[Finding]:
    """What the server, the role, the slots and the publication must be."""
    return [
        *check_server(facts, needs),
        *check_rights(facts, needs),
        *check_replication(facts, needs),
        *check_retention(facts.server),
    ]
