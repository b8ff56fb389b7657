"""No part waits for Postgres past the class whose waits are bounded (`postgres/bounded_connection`)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.source import Module, modules

BOUNDED = "pgshapes.postgres.bounded_connection"

# Where the loop's own readers and writers of a socket of Postgres are registered, and what bounds them.
READERS = {
    BOUNDED: "`readable` has the connection's limit of silence",
    "pgshapes.postgres.replication": "the stream has a limit of silence of its own, and its end a timeout",
}
# Connections that are not asynchronous, and what bounds them.
SYNCHRONOUS = {"pgshapes.embedded.server": "one attempt to connect, with connect_timeout"}
UNBOUNDED = frozenset({"wait_async", "wait_conn_async", "AsyncConnection", "AsyncConnectionPool"})


def attributes(module: Module) -> Iterator[str]:
    """Every attribute that the module reads."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            yield node.attr


def names(module: Module) -> set[str]:
    """Every attribute and every imported name of a module, without what it is imported from."""
    return {*attributes(module), *(name.rpartition(".")[2] for name in module.imported_names())}


def test_only_one_module_knows_unbounded_waits() -> None:
    users = {module.name for module in modules().values() if names(module) & UNBOUNDED}
    assert users == {BOUNDED}


def test_sockets_of_postgres_are_read_where_a_limit_is_kept() -> None:
    users = {
        module.name
        for module in modules().values()
        if module.part == "postgres" and {"add_reader", "add_writer"} & set(attributes(module))
    }
    assert users == set(READERS)


def test_no_connection_is_opened_past_the_bounded_class() -> None:
    openers = {
        module.name
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("psycopg.connect", "Connection.connect")
    }
    assert openers - set(SYNCHRONOUS) == {"pgshapes.postgres.doctor"}


def test_the_doctor_opens_the_bounded_class() -> None:
    imported = set(modules()["pgshapes.postgres.doctor"].imported_names())
    assert "pgshapes.postgres.connection.Connection" in imported
