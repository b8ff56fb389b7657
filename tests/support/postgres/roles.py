"""Roles for single tests, and URLs for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg


@contextlib.contextmanager
def role(connection: psycopg.Connection, name: str, password: str, attributes: str = "") -> Iterator[str]:
    """A role that may log in; it is dropped at exit, with what it owns in this database."""
    connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {attributes}")
    try:
        yield name
    finally:
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


def as_role(url: str, name: str, password: str) -> str:
    """The URL for another role."""
    parts = urlsplit(url)
    return f"postgresql://{name}:{password}@{parts.hostname}:{parts.port}{parts.path}"
