"""Facts about a database in which everything works, for the checks to be given with one difference."""

from __future__ import annotations

from pgshapes.doctor.facts import (
    ConnectionFacts,
    Facts,
    Needs,
    PublicationFacts,
    RoleFacts,
    ServerFacts,
    SlotFacts,
)
from pgshapes.doctor.finding import Finding, Mark
from pgshapes.doctor.table_facts import TableFacts
from pgshapes.model.followable import Obstacle

NEEDS = Needs(slot="electric_slot_default", publication="electric_publication_default", connections=30)

SERVER = ServerFacts(
    version_number=160004,
    version="16.4",
    wal_level="logical",
    is_standby=False,
    primary_address=None,
    encoding="UTF8",
    provider=None,
    max_slots=10,
    used_slots=1,
    max_senders=10,
    used_senders=1,
    max_connections=97,
    used_connections=5,
    max_slot_wal_keep=None,
    wal_keep=0,
    idle_slot_timeout_s=0,
    sender_timeout_s=60.0,
    is_read_only=False,
    read_only_source="default",
)
ROLE = RoleFacts(
    name="sync",
    database="app",
    is_superuser=False,
    may_replicate=True,
    is_rds_replication=False,
    is_cloudsqlsuperuser=False,
    may_create=True,
    may_log_snapshots=True,
)
SLOT = SlotFacts(
    name=NEEDS.slot,
    plugin="pgoutput",
    database="app",
    is_in_this_database=True,
    active_pid=None,
    wal_status="reserved",
    is_two_phase=False,
    retained=1000,
)
PUBLICATION = PublicationFacts(
    owner="sync",
    is_ours=True,
    not_published=(),
    is_all_tables=False,
    schemas=(),
)
FACTS = Facts(SERVER, ROLE, (SLOT,), PUBLICATION, ())

CONNECTION = ConnectionFacts(
    host="db.internal:5432", is_local=False, is_encrypted=True, is_verified=True, database=("start", 5)
)

TABLE = TableFacts(schema="public", name="t", kind="r", key=("id",), is_published=False, is_full=True)
UNLOGGED = Obstacle("it is unlogged", "make it a logged table", ('ALTER TABLE "public"."t" SET LOGGED',))


def only(findings: list[Finding], *marks: Mark) -> Finding:
    """The one finding that has one of these marks, or any but `WORKS`."""
    wanted = marks or (Mark.FAILS, Mark.WARNS)
    (finding,) = [each for each in findings if each.mark in wanted]
    return finding
