"""Forms for enums, domains and composite types."""

from __future__ import annotations

from tests.oracle.ddl.catalog import UserType, quoted
from tests.oracle.ddl.forms import Draw, form
from tests.oracle.ddl.statements import Kind, Statement

MOST_TYPES = 5


@form(weight=2)
def create_type(draw: Draw) -> Statement | None:
    """An enum, a domain, a composite type, a domain over an enum."""
    if len(draw.catalog.types) >= MOST_TYPES:
        return None
    name = f"public.{draw.name('type_')}"
    enum = draw.any(one for one in draw.catalog.types if one.kind == "e")
    base = f"public.{enum.name}" if enum else "numeric"
    sql = draw.pick.choice(
        (
            f"CREATE TYPE {name} AS ENUM ('sad', 'ok', 'quite ok')",
            f"CREATE TYPE {name} AS (one integer, two text)",
            f"CREATE DOMAIN {name} AS text",
            f"CREATE DOMAIN {name} AS integer CHECK (VALUE IS NULL OR VALUE > -1)",
            f"CREATE DOMAIN {name} AS {base}",
        )
    )
    return Statement(Kind.CREATE_TYPE, sql)


def _concerning(draw: Draw, type_: UserType, kind: Kind, sql: str) -> Statement:
    used = list(draw.catalog.using(type_.oid))
    tables = dict.fromkeys(table.full_name for table, _ in used)
    return Statement(kind, sql, tuple(tables), tuple(dict.fromkeys(column.name for _, column in used)))


def _of_kind(draw: Draw, kind: str) -> UserType | None:
    """One that a table uses, if there is one."""
    types = [one for one in draw.catalog.types if one.kind == kind]
    return draw.any([one for one in types if any(draw.catalog.using(one.oid))] or types)


@form(weight=2)
def rename_value(draw: Draw) -> Statement | None:
    """Of an enum: the texts of stored values change."""
    enum = _of_kind(draw, "e")
    label = draw.any(enum.parts) if enum else None
    if enum is None or label is None:
        return None
    old = label.replace("'", "''")
    sql = f"ALTER TYPE public.{enum.name} RENAME VALUE '{old}' TO '{draw.name('label ')}'"
    return _concerning(draw, enum, Kind.ENUM_RENAME, sql)


@form(weight=1.5)
def add_value(draw: Draw) -> Statement | None:
    """Anywhere in the order."""
    enum = _of_kind(draw, "e")
    label = draw.any(enum.parts) if enum else None
    if enum is None or label is None:
        return None
    place = draw.pick.choice(("", f" BEFORE {_quote(label)}", f" AFTER {_quote(label)}"))
    sql = f"ALTER TYPE public.{enum.name} ADD VALUE '{draw.name('label ')}'{place}"
    return _concerning(draw, enum, Kind.ENUM_ADD, sql)


@form(weight=2)
def change_attribute(draw: Draw) -> Statement | None:
    """Of a composite type: added, dropped or renamed."""
    composite = _of_kind(draw, "c")
    attribute = draw.any(composite.parts) if composite else None
    if composite is None or attribute is None:
        return None
    actions = [
        f"ADD ATTRIBUTE {draw.name('attribute_')} {draw.pick.choice(('integer', 'text'))}",
        f"RENAME ATTRIBUTE {quoted(attribute)} TO {draw.name('attribute_')}",
    ]
    if len(composite.parts) > 1:
        actions.append(f"DROP ATTRIBUTE {quoted(attribute)}")
    sql = f"ALTER TYPE public.{composite.name} {draw.pick.choice(actions)}"
    return _concerning(draw, composite, Kind.ATTRIBUTE, sql)


@form(weight=1)
def change_domain(draw: Draw) -> Statement | None:
    """Its default and constraints, which change no value."""
    domain = _of_kind(draw, "d")
    if domain is None:
        return None
    action = draw.pick.choice(
        (
            "DROP DEFAULT",
            f"ADD CONSTRAINT {draw.name('con_')} CHECK (VALUE IS NOT DISTINCT FROM VALUE) NOT VALID",
            f"ADD CONSTRAINT {draw.name('con_')} CHECK (length(VALUE::text) < 1000)",
        )
    )
    return _concerning(draw, domain, Kind.DOMAIN, f"ALTER DOMAIN public.{domain.name} {action}")


@form(weight=0.8)
def rename_type(draw: Draw) -> Statement | None:
    """Its name is in the description of columns."""
    type_ = draw.any(draw.catalog.types)
    if type_ is None:
        return None
    sql = f"ALTER TYPE public.{type_.name} RENAME TO {draw.name('type_')}"
    return _concerning(draw, type_, Kind.RENAME_TYPE, sql)


@form(weight=0.5)
def drop_type(draw: Draw) -> Statement | None:
    """With the columns of it."""
    type_ = draw.any(draw.catalog.types)
    if type_ is None:
        return None
    return _concerning(draw, type_, Kind.DROP_TYPE, f"DROP TYPE public.{type_.name} CASCADE")


def _quote(label: str) -> str:
    return "'" + label.replace("'", "''") + "'"
