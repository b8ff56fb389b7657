"""Known errors of Postgres and libpq, and the action for each."""

from __future__ import annotations

import psycopg
import pytest

from pgshapes.errors import ConfigError
from pgshapes.postgres.sqlstate import config_error, from_sqlstate, rule_for

CONNECTING = [
    ('FATAL:  password authentication failed for user "a"', "operator", "user and password"),
    ("fe_sendauth: no password supplied", "operator", "user and password"),
    ('FATAL:  role "a" does not exist', "operator", "user"),
    ('FATAL:  database "a" does not exist', "operator", "create it"),
    ('FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "a"', "operator", "pg_hba.conf"),
    ("FATAL:  permission denied to start WAL sender", "operator", "REPLICATION"),
    ("FATAL:  must be superuser or replication role to start walsender", "operator", "REPLICATION"),
    ("server does not support SSL, but SSL was required", "operator", "sslmode"),
    ("SSL error: certificate verify failed", "operator", "certificate"),
    ("failed to resolve host 'h': [Errno -8] Servname not supported", "operator", "port"),
    ('connection is bad: invalid port number: "99999"', "operator", "port"),
    ("failed to resolve host 'h': [Errno -2] Name or service not known", "retry", "host"),
    ('connection to server at "h", port 1 failed: Connection refused', "retry", "Postgres runs"),
    ("connection timeout expired", "retry", "Postgres runs"),
    ("FATAL:  the database system is starting up", "retry", ""),
    ("FATAL:  the database system is shutting down", "retry", ""),
    ("FATAL:  sorry, too many clients already", "retry", ""),
    ("FATAL:  Passwort-Authentifizierung fehlgeschlagen", "retry", ""),
]

STATES = [
    ("57P01", "terminating connection due to administrator command", "retry"),
    ("53100", "could not extend file: No space left on device", "retry"),
    ("40001", "could not serialize access", "retry"),
    ("55006", 'replication slot "s" is active for PID 4711', "wait"),
    ("55P03", "canceling statement due to lock timeout", "wait"),
    ("42P01", 'relation "t" does not exist', "invalidate"),
    ("42703", 'column "c" does not exist', "invalidate"),
    ("42883", "function f() does not exist", "invalidate"),
    ("42704", 'replication slot "s" does not exist', "invalidate"),
    ("42704", 'publication "p" does not exist', "retry"),
    ("55000", 'can no longer get changes from replication slot "s"', "invalidate"),
    ("55000", 'can no longer access replication slot "s"', "invalidate"),
    ("58P01", "requested WAL segment 000000010000000000000001 has already been removed", "invalidate"),
    ("55000", "logical decoding requires wal_level >= logical", "operator"),
    ("55000", 'logical decoding requires "wal_level" >= "logical"', "operator"),
    ("53400", "all replication slots are in use", "operator"),
    ("42501", "permission denied for table t", "operator"),
    ("28P01", "password authentication failed", "operator"),
    ("3D000", 'database "d" does not exist', "operator"),
    ("XX000", "something that nobody has seen yet", "retry"),
]


@pytest.mark.parametrize(("text", "action", "hint"), CONNECTING)
def test_the_rule_for_a_failed_connection(text: str, action: str, hint: str) -> None:
    error = from_sqlstate(psycopg.OperationalError(text))
    assert error.action == action
    assert error.message.startswith(text)
    assert hint in error.message[len(text) :]


@pytest.mark.parametrize(("sqlstate", "text", "action"), STATES)
def test_the_rule_for_an_error_with_a_sqlstate(sqlstate: str, text: str, action: str) -> None:
    assert rule_for(sqlstate, text).action == action


def test_connection_rules_do_not_apply_to_statements() -> None:
    assert rule_for("58P01", "could not open file: No such file or directory").hint == ""
    assert rule_for("42704", 'role "r" does not exist').action == "retry"


def test_at_start_up_it_is_one_line_that_says_what_to_do() -> None:
    text = 'connection failed: FATAL:  database "shop" does not exist\nDETAIL:  more\nHINT:  more'
    error = config_error(from_sqlstate(psycopg.OperationalError(text)))
    assert isinstance(error, ConfigError)
    assert error.message == (
        'connection failed: FATAL:  database "shop" does not exist;'
        " create it or correct the name in DATABASE_URL"
    )
