"""Translates errors of Postgres: what happened, which action helps, who must act.

A failed connection has no SQLSTATE, because libpq reports only a message, so the message decides. An unknown
message, also one in another language, means "retry". No message contains a password.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import psycopg

from pgshapes.errors import ConfigError, SourceError

RETRY: Final = "retry"
"""The next attempt may succeed."""
WAIT: Final = "wait"
"""Another session holds the resource and is expected to release it."""
INVALIDATE: Final = "invalidate"
"""An object that shapes depend on does not exist any more: they must be recreated."""
OPERATOR: Final = "operator"
"""No attempt succeeds before an operator has changed something."""


class Rule(NamedTuple):
    """The action for an error, and a hint that is appended to the message of Postgres."""

    action: str
    hint: str = ""


_Rules = tuple[tuple[re.Pattern[str], Rule], ...]


def _rules(*rows: tuple[str, Rule]) -> _Rules:
    return tuple((re.compile(pattern), rule) for pattern, rule in rows)


_REPLICATION: Final = _rules(
    (
        r"to start WAL sender|must be superuser or replication role|to use replication slots",
        Rule(OPERATOR, "User does not have the REPLICATION attribute: run ALTER ROLE … WITH REPLICATION"),
    ),
    (
        r'requires "?wal_level',
        Rule(OPERATOR, "run ALTER SYSTEM SET wal_level = 'logical' and restart the Postgres server"),
    ),
    (r"all replication slots are in use", Rule(OPERATOR, "raise max_replication_slots")),
    (r"exceeds max_wal_senders", Rule(RETRY, "raise max_wal_senders if this does not pass")),
    (
        r"can no longer (get changes from|access) replication slot|WAL segment .* has already been removed"
        r'|replication slot ".*" does not exist',
        Rule(INVALIDATE),
    ),
    (
        r'replication slot ".*" is active',
        Rule(
            WAIT,
            "Replication slot already in use by another database connection, possibly external to pgshapes:"
            " stop that one or set another stream id",
        ),
    ),
    (r'publication ".*" does not exist', Rule(RETRY)),
)
"""Errors that share their SQLSTATE with others, by message."""

_CONNECTING: Final = _rules(
    (
        r"password authentication failed|no password supplied",
        Rule(OPERATOR, "check user and password in DATABASE_URL"),
    ),
    (
        r'role ".*" does not exist|is not permitted to log in',
        Rule(OPERATOR, "check the user in DATABASE_URL"),
    ),
    (r'database ".*" does not exist', Rule(OPERATOR, "create it or correct the name in DATABASE_URL")),
    (r"permission denied for database", Rule(OPERATOR, "grant CONNECT on it to the user")),
    (r"pg_hba\.conf", Rule(OPERATOR, "allow this user and address in pg_hba.conf")),
    (r"server does not support SSL", Rule(OPERATOR, "set sslmode=prefer or disable in DATABASE_URL")),
    (r"certificate verify failed|root certificate file", Rule(OPERATOR, "check the CA certificate")),
    (r"invalid port number|Servname not supported", Rule(OPERATOR, "correct the port in DATABASE_URL")),
    (
        r"could not translate host name|failed to resolve host",
        Rule(RETRY, "check the host in DATABASE_URL"),
    ),
    (
        r"Connection refused|No such file or directory|timeout expired|No route to host|unreachable",
        Rule(RETRY, "check that Postgres runs and that DATABASE_URL has its host and port"),
    ),
)
"""Failures to connect, by the message of libpq or the server."""

_BY_STATE: Final = {
    "55006": Rule(WAIT),
    "55P03": Rule(WAIT),
    "42P01": Rule(INVALIDATE),
    "42703": Rule(INVALIDATE),
    "42883": Rule(INVALIDATE),
    "3F000": Rule(INVALIDATE),
    "42501": Rule(OPERATOR),
    "3D000": Rule(OPERATOR),
}
_BY_CLASS: Final = {"28": Rule(OPERATOR)}
_UNKNOWN: Final = Rule(RETRY)


def from_sqlstate(error: psycopg.Error) -> SourceError:
    """The SourceError for an error of Postgres; its message is one line with the hint."""
    rule = rule_for(error.sqlstate, str(error))
    said = _one_line(error)
    message = f"{said}; {rule.hint}" if rule.hint else said
    return SourceError(message, sqlstate=error.sqlstate, action=rule.action)


def rule_for(sqlstate: str | None, text: str) -> Rule:
    """The rule for an error with this SQLSTATE and message."""
    for pattern, rule in _REPLICATION if sqlstate else _REPLICATION + _CONNECTING:
        if pattern.search(text):
            return rule
    if sqlstate is None:
        return _UNKNOWN
    return _BY_STATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], _UNKNOWN)


def config_error(error: SourceError) -> ConfigError:
    """The error at start-up, which ends the process."""
    return ConfigError(error.message)


def _one_line(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    if primary is not None:
        return primary
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
