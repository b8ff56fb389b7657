"""Checks of the role and of the publication. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pgshapes.doctor.facts import Facts, Needs, PublicationFacts, RoleFacts
from pgshapes.doctor.finding import Finding, fails, warns, works
from pgshapes.model.quoting import quote_identifier

_GENERATED_VERSION = 180000


def check_rights(facts: Facts, needs: Needs) -> Iterator[Finding]:
    """What the role may do in the database."""
    yield _replication(facts)
    publication = facts.publication
    if publication is None:
        yield _creation(facts, needs)
    else:
        yield _ownership(publication, facts.role, needs)
        yield from _options(publication, needs)
    yield from _standby_snapshots(facts, needs)


def _replication(facts: Facts) -> Finding:
    role = facts.role
    if role.is_superuser:
        return works("REPLICATION", f"{role.name} is a superuser")
    if role.may_replicate:
        return works("REPLICATION", f"{role.name} has the attribute")
    if role.is_rds_replication:
        return works("REPLICATION", f"{role.name} is a member of rds_replication")
    name = quote_identifier(role.name)
    if facts.server.provider == "rds_superuser":
        text = f"{role.name} is not a member of rds_replication: run this as the master user"
        return fails("REPLICATION", text, f"GRANT rds_replication TO {name};")
    who = "as this role itself, a member of cloudsqlsuperuser"
    if not role.is_cloudsqlsuperuser:
        who = _administrator(facts.server.provider)
    text = f"{role.name} does not have the attribute: run this {who}"
    return fails("REPLICATION", text, f"ALTER ROLE {name} WITH REPLICATION;")


def _administrator(provider: str | None) -> str:
    return f"as a member of {provider}" if provider else "as a superuser"


def _creation(facts: Facts, needs: Needs) -> Finding:
    role, name = facts.role, needs.publication
    if needs.is_manual:
        text = f"{name} does not exist, and manual_table_publishing is set"
        return fails("publication", text, create_publication(facts, needs))
    if role.may_create or role.is_superuser:
        return works("publication", f"{name} will be created")
    text = f"{name} does not exist, and {role.name} may not create it"
    return fails(
        "publication", text, f"GRANT CREATE ON DATABASE {quote_identifier(role.database)} TO {_sql(role)};"
    )


def create_publication(facts: Facts, needs: Needs) -> str:
    """The statement that creates the publication, empty."""
    generated = ""
    if facts.server.version_number >= _GENERATED_VERSION:
        generated = " WITH (publish_generated_columns = stored)"
    return f"CREATE PUBLICATION {quote_identifier(needs.publication)}{generated};"


def _ownership(publication: PublicationFacts, role: RoleFacts, needs: Needs) -> Finding:
    name = needs.publication
    if publication.is_ours:
        return works("publication", f"{name} exists and is owned by {publication.owner}")
    if needs.is_manual:
        text = f"{name} exists; {publication.owner} owns it and adds the tables"
        return works("publication", text)
    text = f"{name} is owned by {publication.owner}, so that {role.name} cannot add tables to it"
    return fails("publication", text, f"ALTER PUBLICATION {quote_identifier(name)} OWNER TO {_sql(role)};")


def _options(publication: PublicationFacts, needs: Needs) -> Iterator[Finding]:
    """What concerns all tables; the rest is among the obstacles of each table."""
    name = quote_identifier(needs.publication)
    if publication.not_published:
        missing = ", ".join(publication.not_published)
        publish = "SET (publish = 'insert, update, delete, truncate');"
        yield fails("publication", f"does not publish {missing}", f"ALTER PUBLICATION {name} {publish}")
    if publication.is_all_tables:
        text = "is FOR ALL TABLES: UPDATE and DELETE fail on tables without a replica identity"
        yield warns("publication", text)
    if publication.schemas:
        text = f"publishes the tables in schema {', '.join(publication.schemas)}: they cannot be removed"
        yield warns("publication", f"{text} from it one by one")


def _standby_snapshots(facts: Facts, needs: Needs) -> Iterator[Finding]:
    has_slot = any(slot.name == needs.slot for slot in facts.slots)
    if has_slot or facts.role.may_log_snapshots:
        return
    text = "pg_log_standby_snapshot() may not be called, so that the creation of the slot takes longer"
    sql = f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {_sql(facts.role)};"
    yield warns("slot", text, sql)


def _sql(role: RoleFacts) -> str:
    return quote_identifier(role.name)
