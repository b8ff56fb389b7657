"""Reads what `doctor` checks about a server, a role, slots and the publication.

One read-only transaction, so that it works through a transaction pooler and leaves nothing on a connection.
What differs between Postgres versions is read with `to_jsonb`, so that one query works on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pgshapes.doctor.facts import (
    Facts,
    Needs,
    OpenTransaction,
    PublicationFacts,
    RoleFacts,
    ServerFacts,
    SlotFacts,
)
from pgshapes.postgres.connection import Connection

_PUBLISHES_SCHEMAS: Final = 150000
_MB: Final = 2**20

_SETTINGS: Final = """
SELECT pg_catalog.jsonb_object_agg(s.name, pg_catalog.jsonb_build_array(s.setting, s.source))
  FROM pg_catalog.pg_settings s
 WHERE s.name IN ('server_version_num', 'server_version', 'server_encoding', 'wal_level',
                  'max_replication_slots', 'max_wal_senders', 'max_connections',
                  'superuser_reserved_connections', 'reserved_connections', 'max_slot_wal_keep_size',
                  'wal_keep_size', 'idle_replication_slot_timeout', 'wal_sender_timeout',
                  'default_transaction_read_only')"""

_COUNTS: Final = """
SELECT pg_catalog.pg_is_in_recovery(),
       (SELECT w.sender_host || ':' || w.sender_port FROM pg_catalog.pg_stat_wal_receiver w LIMIT 1),
       (SELECT r.rolname::text FROM pg_catalog.pg_roles r
         WHERE r.rolname IN ('rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin', 'neon_superuser')
         LIMIT 1),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
       (SELECT pg_catalog.sum(d.numbackends) FROM pg_catalog.pg_stat_database d)"""

_ROLE: Final = """
SELECT current_user::text, pg_catalog.current_database()::text, r.rolsuper, r.rolreplication OR r.rolsuper,
       EXISTS (SELECT FROM pg_catalog.pg_roles g
                WHERE g.rolname = 'rds_replication'
                  AND pg_catalog.pg_has_role(current_user, g.oid, 'MEMBER')),
       EXISTS (SELECT FROM pg_catalog.pg_roles g
                WHERE g.rolname = 'cloudsqlsuperuser'
                  AND pg_catalog.pg_has_role(current_user, g.oid, 'MEMBER')),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       COALESCE((SELECT pg_catalog.has_function_privilege(f.oid, 'EXECUTE') FROM pg_catalog.pg_proc f
                  WHERE f.proname = 'pg_log_standby_snapshot'
                    AND f.pronamespace = 'pg_catalog'::pg_catalog.regnamespace), true)
  FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"""

_SLOTS: Final = """
SELECT s.slot_name::text, s.plugin::text, s.database::text,
       COALESCE(s.database = pg_catalog.current_database(), false), s.active_pid,
       j.row ->> 'wal_status', COALESCE((j.row ->> 'two_phase')::bool, false),
       COALESCE(pg_catalog.pg_wal_lsn_diff(here.lsn, s.restart_lsn), 0)::int8
  FROM pg_catalog.pg_replication_slots s,
       LATERAL (SELECT pg_catalog.to_jsonb(s) AS row) j,
       (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                    ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) here
 ORDER BY s.slot_name"""

_PUBLICATION: Final = """
SELECT pg_catalog.pg_get_userbyid(p.pubowner)::text, pg_catalog.pg_has_role(p.pubowner, 'USAGE'),
       p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.puballtables, {schemas}
  FROM pg_catalog.pg_publication p WHERE p.pubname = %s"""
_NO_SCHEMAS: Final = "'{}'::text[]"
_SCHEMAS: Final = """
       ARRAY(SELECT n.nspname::text FROM pg_catalog.pg_publication_namespace m
               JOIN pg_catalog.pg_namespace n ON n.oid = m.pnnspid WHERE m.pnpubid = p.oid ORDER BY 1)"""

_TRANSACTIONS: Final = """
SELECT DISTINCT a.pid::int8, NULL::text,
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS age,
       a.usename::text, a.datname::text
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
   AND a.pid <> pg_catalog.pg_backend_pid()
UNION ALL
SELECT NULL, x.gid, EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - x.prepared)::float8,
       x.owner::text, x.database::text
  FROM pg_catalog.pg_prepared_xacts x
 ORDER BY age DESC NULLS LAST"""
"""A transaction with a number of its own holds a lock on it. A new slot waits for all of the cluster."""


async def read_facts(db: Connection, needs: Needs) -> Facts:
    """What the checks need to know. Raises psycopg.Error."""
    settings = (await _rows(db, _SETTINGS))[0][0]
    version = int(settings["server_version_num"][0])
    slots = tuple(SlotFacts._make(row) for row in await _rows(db, _SLOTS))
    return Facts(
        _server(settings, (await _rows(db, _COUNTS))[0], len(slots)),
        RoleFacts._make((await _rows(db, _ROLE))[0]),
        slots,
        await _publication(db, needs.publication, version),
        tuple(OpenTransaction._make(row) for row in await _rows(db, _TRANSACTIONS)),
    )


def has_schema_publications(version: int) -> bool:
    """Whether the system catalogs know publications of schemas."""
    return version >= _PUBLISHES_SCHEMAS


async def _rows(db: Connection, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
    return await (await db.execute(sql.encode(), arguments or None)).fetchall()


def _server(settings: dict[str, list[str]], counts: Sequence[Any], used_slots: int) -> ServerFacts:
    def number(name: str) -> int:
        return int(settings[name][0]) if name in settings else 0

    is_standby, primary_address, provider, used_senders, backends = counts
    reserved = number("superuser_reserved_connections") + number("reserved_connections")
    keep_mb = number("max_slot_wal_keep_size")
    return ServerFacts(
        version_number=number("server_version_num"),
        version=settings["server_version"][0],
        wal_level=settings["wal_level"][0],
        is_standby=is_standby,
        primary_address=primary_address,
        encoding=settings["server_encoding"][0],
        provider=provider,
        max_slots=number("max_replication_slots"),
        used_slots=used_slots,
        max_senders=number("max_wal_senders"),
        used_senders=used_senders,
        max_connections=number("max_connections") - reserved,
        used_connections=int(backends or 0),
        max_slot_wal_keep=None if keep_mb < 0 else keep_mb * _MB,
        wal_keep=number("wal_keep_size") * _MB,
        idle_slot_timeout_s=number("idle_replication_slot_timeout"),
        sender_timeout_s=number("wal_sender_timeout") / 1000,
        is_read_only=settings["default_transaction_read_only"][0] == "on",
        read_only_source=settings["default_transaction_read_only"][1],
    )


async def _publication(db: Connection, name: str, version: int) -> PublicationFacts | None:
    schemas = _SCHEMAS if has_schema_publications(version) else _NO_SCHEMAS
    rows = await _rows(db, _PUBLICATION.format(schemas=schemas), name)
    if not rows:
        return None
    owner, is_ours, *published, all_tables, in_schemas = rows[0]
    operations = ("insert", "update", "delete", "truncate")
    missing = tuple(each for each, is_there in zip(operations, published, strict=True) if not is_there)
    return PublicationFacts(owner, is_ours, missing, all_tables, tuple(in_schemas))
