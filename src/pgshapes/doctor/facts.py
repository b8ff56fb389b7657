"""What is known about a database and about the server that is to use it. Pure.

Not here: how the facts are read (`postgres/doctor_facts.py`), facts about tables (`table_facts`). Sizes are
in bytes, times in seconds.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Needs(NamedTuple):
    """What a server with these settings needs of the database."""

    slot: str
    publication: str
    is_manual: bool = False
    """Whether publication and tables are never altered by us."""
    allows_no_key: bool = False
    """The setting `allow_tables_without_key`."""
    connections: int = 0
    tables: tuple[tuple[str, str], ...] = ()
    """Schema and name of the tables that are asked about; empty for all."""


class Pooling(Enum):
    """What is between a client and Postgres."""

    NONE = "none"
    SESSION = "session"
    """A proxy that gives each client a server connection of its own."""
    TRANSACTION = "transaction"
    """A pooler that gives each transaction any server connection."""


class ConnectionFacts(NamedTuple):
    """A connection to the database, as the client sees it."""

    host: str
    """Name, address, or directory of the socket."""
    is_local: bool
    """Whether it cannot leave the machine."""
    is_encrypted: bool
    is_verified: bool
    """Whether the certificate of the server was checked."""
    pooling: Pooling = Pooling.NONE
    replication_refusal: str | None = None
    """Why no walsender could be reached on the same URL; None if one was, or was not asked for."""
    database: tuple[str, int] = ("", 0)
    """When the server was started, oid of the database: others have others."""
    is_standby: bool = False


class ServerFacts(NamedTuple):
    """The server as it is set up now."""

    version_number: int
    """`server_version_num`: 160004."""
    version: str
    wal_level: str
    is_standby: bool
    primary_address: str | None
    """For a standby: host and port of the server that it follows, if the role may know it."""
    encoding: str
    provider: str | None
    """The managed service that it runs in, by the roles that it has; None if none is known."""
    max_slots: int
    used_slots: int
    max_senders: int
    used_senders: int
    max_connections: int
    """Those that ordinary roles may use."""
    used_connections: int
    max_slot_wal_keep: int | None
    """None for no limit."""
    wal_keep: int
    idle_slot_timeout_s: int
    """0 for none, also before Postgres 18."""
    sender_timeout_s: float
    """0 for none."""
    is_read_only: bool
    """`default_transaction_read_only` for this role and database."""
    read_only_source: str
    """`pg_settings.source` of that setting."""


class RoleFacts(NamedTuple):
    """The role that is connected."""

    name: str
    database: str
    is_superuser: bool
    may_replicate: bool
    """The REPLICATION attribute, or superuser."""
    is_rds_replication: bool
    """Member of rds_replication, which counts as the attribute on Amazon RDS and Aurora."""
    is_cloudsqlsuperuser: bool
    """Member of cloudsqlsuperuser, which may give itself the attribute on Google Cloud SQL."""
    may_create: bool
    """CREATE on the database."""
    may_log_snapshots: bool
    """EXECUTE on pg_log_standby_snapshot(); True before Postgres 16, which does not have it."""


class SlotFacts(NamedTuple):
    """A replication slot of the cluster."""

    name: str
    plugin: str | None
    database: str | None
    is_in_this_database: bool
    active_pid: int | None
    wal_status: str | None
    is_two_phase: bool
    retained: int
    """Bytes of WAL that it keeps from removal."""


class PublicationFacts(NamedTuple):
    """The publication that the server uses."""

    owner: str
    is_ours: bool
    not_published: tuple[str, ...]
    """Those of insert, update, delete and truncate that it leaves out."""
    is_all_tables: bool
    schemas: tuple[str, ...]
    """Published with TABLES IN SCHEMA."""


class OpenTransaction(NamedTuple):
    """A transaction that has written and is open."""

    pid: int | None
    """None for a prepared one."""
    gid: str | None
    """The name of a prepared one."""
    age_s: float | None
    """None if the role may not know it."""
    owner: str
    database: str


class Facts(NamedTuple):
    """All facts besides those about tables."""

    server: ServerFacts
    role: RoleFacts
    slots: tuple[SlotFacts, ...]
    publication: PublicationFacts | None
    transactions: tuple[OpenTransaction, ...]
