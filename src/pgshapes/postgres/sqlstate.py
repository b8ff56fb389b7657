"""The one place where an error of Postgres becomes ours: what happened, what helps, who must act.

A failed connection has no SQLSTATE (libpq gives only text), so its text decides; a text that is not known,
also one in another language, means "retry", which is never wrong, only late. No password is in any of these
texts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import psycopg

from pgshapes.errors import ConfigError, SourceError

RETRY: Final = "retry"
"""It may work at the next attempt."""
WAIT: Final = "wait"
"""Somebody else holds what we need and will let it go."""
INVALIDATE: Final = "invalidate"
"""What shapes were built on is gone: they must be made afresh."""
OPERATOR: Final = "operator"
"""No attempt will succeed before somebody has changed something."""


class Rule(NamedTuple):
    """What to make of an error: `hint`, if any, is added to Postgres's own words."""

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
"""Cases that share a state with others, by Postgres's words."""

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
"""Failures to connect, by the words of libpq and of the server."""

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
    """The error as ours, its message one line: Postgres's words, then what to do."""
    rule = rule_for(error.sqlstate, str(error))
    said = _one_line(error)
    message = f"{said}; {rule.hint}" if rule.hint else said
    return SourceError(message, sqlstate=error.sqlstate, action=rule.action)


def rule_for(sqlstate: str | None, text: str) -> Rule:
    """What to make of an error with this state and text."""
    for pattern, rule in _REPLICATION if sqlstate else _REPLICATION + _CONNECTING:
        if pattern.search(text):
            return rule
    if sqlstate is None:
        return _UNKNOWN
    return _BY_STATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], _UNKNOWN)


def config_error(error: SourceError) -> ConfigError:
    """The same at start-up, where there is somebody to tell and no reason to wait."""
    return ConfigError(error.message)


def _one_line(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    if primary is not None:
        return primary
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
