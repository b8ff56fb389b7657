"""Quoting of names and texts for SQL. Pure. A client's text becomes part of SQL only here and in `where`."""

from __future__ import annotations

import re

_NEEDS_NO_QUOTES = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


def quote_identifier(name: str) -> str:
    """A name as a delimited identifier. Raises ValueError for a name that no identifier can hold."""
    if not name or "\0" in name:
        raise ValueError(f"not an identifier: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def qualified_name(schema: str, name: str) -> str:
    """`"schema"."name"`."""
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def quote_literal(text: str) -> str:
    """A text as a string constant that means the same whatever `standard_conforming_strings` says."""
    if "\0" in text:
        raise ValueError("a Postgres text cannot hold the character 0")
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return "E" + quoted if "\\" in text else quoted


def display_name(schema: str, name: str) -> str:
    """`schema.name` for messages, each part quoted only if it needs it."""
    return ".".join(
        part if _NEEDS_NO_QUOTES.fullmatch(part) else quote_identifier(part) for part in (schema, name)
    )
