"""Translates errors of Postgres: what happened, which action helps, who must act.

A failed connection has no SQLSTATE, because libpq reports only a message, so the message decides. An unknown
message, also one in another language, means "retry". Every message passes the redaction of secrets.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import psycopg

from pgshapes.errors import ConfigError, SourceError
from pgshapes.redaction import redaction

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
        r"password authentication failed|no password supplied|SASL authentication failed",
        Rule(OPERATOR, "check user and password in DATABASE_URL"),
    ),
    (
        r'role ".*" does not exist|is not permitted to log in|[Tt]enant or user not found|no such user',
        Rule(OPERATOR, "check the user in DATABASE_URL"),
    ),
    (
        r'database ".*" does not exist|no such database',
        Rule(OPERATOR, "create it or correct the name in DATABASE_URL"),
    ),
    (
        r'database ".*" is not currently accepting connections',
        Rule(OPERATOR, "choose another database in DATABASE_URL"),
    ),
    (r"permission denied for database", Rule(OPERATOR, "grant CONNECT on it to the user")),
    (r"pg_hba\.conf", Rule(OPERATOR, "allow this user and address in pg_hba.conf")),
    (
        r"unsupported startup parameter",
        Rule(OPERATOR, "DATABASE_URL leads to a connection pooler: use the address of Postgres itself"),
    ),
    (
        r"[Ee]ndpoint ID is not specified",
        Rule(OPERATOR, "add options=endpoint%3D<endpoint id> to DATABASE_URL"),
    ),
    (r"server does not support SSL", Rule(OPERATOR, "set sslmode=prefer or disable in DATABASE_URL")),
    (
        r"certificate verify failed|root certificate|server certificate for|server's host name|weak sslmode"
        r"|self-signed certificate",
        Rule(
            OPERATOR,
            "check the host in DATABASE_URL and the CA certificate: set DATABASE_CA_CERTIFICATE_FILE, or"
            " sslrootcert=system for public certificate authorities",
        ),
    ),
    (
        r"client certificate|certificate file|private key file|certificate present, but not"
        r"|requires a valid client certificate"
        r"|alert (unknown ca|bad certificate|certificate|handshake failure|unsupported certificate)",
        Rule(OPERATOR, "check sslcert and sslkey in DATABASE_URL"),
    ),
    (
        r"channel binding (is )?required|authentication method requirement|authentication method \d+ not",
        Rule(
            OPERATOR, "change channel_binding or require_auth in DATABASE_URL, or the server's authentication"
        ),
    ),
    (
        r"server is in hot standby mode|session is read-only|server is in standby mode",
        Rule(RETRY, "no host in DATABASE_URL is a primary that accepts writes at the moment"),
    ),
    (
        r"invalid port number|Servname not supported",
        Rule(OPERATOR, "correct the port in DATABASE_URL"),
    ),
    (
        r'invalid (\S+ value|value for parameter|command-line argument)|value ".*" invalid when'
        r"|unrecognized configuration parameter|bad value for|could not match \d+ (host|port)"
        r"|definition of service|service file",
        Rule(OPERATOR, "correct the parameters in DATABASE_URL"),
    ),
    (
        r"could not translate host name|failed to resolve host",
        Rule(RETRY, "check the host in DATABASE_URL"),
    ),
    (
        r"Connection refused|No such file or directory|timeout expired|No route to host|unreachable",
        Rule(RETRY, "check that Postgres runs and that DATABASE_URL has its host and port"),
    ),
    (
        r"too many (clients|connections)|remaining connection slots|max_client_conn",
        Rule(RETRY, "raise max_connections, or close other connections"),
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
    "25006": Rule(OPERATOR, "the server does not allow writes: connect to the primary"),
}
_BY_CLASS: Final = {"28": Rule(OPERATOR)}
_UNKNOWN: Final = Rule(RETRY)
_LASTING_CLASSES: Final = frozenset({"0A", "22", "25", "26", "34", "3D", "3F", "42", "F0"})
"""Classes of errors that the same statement gets again: not supported, data, state, name, syntax, access."""

_ATTEMPTS: Final = "Multiple connection attempts failed. All failures were:"
"""Precedes the failures, one in a line, when a name or a list of hosts led to several addresses."""


def from_sqlstate(error: psycopg.Error) -> SourceError:
    """The SourceError for an error of Postgres; its message is one line with the hint."""
    rule = rule_for(error.sqlstate, str(error))
    said = _one_line(error)
    message = redaction.redact(f"{said}; {rule.hint}" if rule.hint else said)
    return SourceError(message, sqlstate=error.sqlstate, action=rule.action)


def rule_for(sqlstate: str | None, text: str) -> Rule:
    """The rule for an error with this SQLSTATE and message."""
    if sqlstate is None:
        return _connecting_rule(text)
    known = _by_message(_REPLICATION, text)
    return known or _BY_STATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], _UNKNOWN)


def _connecting_rule(text: str) -> Rule:
    """The rule for a failed connection; of several attempts, that of one that may succeed later."""
    _, _, attempts = text.partition(_ATTEMPTS)
    rules = [_by_message(_REPLICATION + _CONNECTING, each) or _UNKNOWN for each in attempts.split("\n- ")[1:]]
    curable = [rule for rule in rules if rule.action != OPERATOR]
    return curable[-1] if curable else _by_message(_REPLICATION + _CONNECTING, text) or _UNKNOWN


def _by_message(rules: _Rules, text: str) -> Rule | None:
    return next((rule for pattern, rule in rules if pattern.search(text)), None)


def may_pass(error: SourceError) -> bool:
    """Whether the same attempt may succeed later, without anybody changing the settings or the database."""
    if error.action == OPERATOR:
        return False
    is_lasting = error.sqlstate is not None and error.sqlstate[:2] in _LASTING_CLASSES
    return not is_lasting or _by_message(_REPLICATION, error.message) is not None


def lacks_slot_or_publication(error: Exception) -> bool:
    """Whether the slot does not exist, or its stream has come to where the publication did not: undefined
    object.
    """
    return isinstance(error, SourceError) and error.sqlstate == "42704"


def config_error(error: SourceError) -> ConfigError:
    """The error at start-up, which ends the process."""
    return ConfigError(error.message)


def _one_line(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    if primary is not None:
        return primary
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
