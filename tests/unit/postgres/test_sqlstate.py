"""Known errors of Postgres and libpq, and the action for each."""

from __future__ import annotations

import psycopg
import pytest

from pgshapes.errors import ConfigError, SourceError
from pgshapes.postgres.sqlstate import config_error, from_sqlstate, may_pass, rule_for
from pgshapes.redaction import Redaction

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
    ("FATAL:  the database system is in recovery mode", "retry", ""),
    ("FATAL:  the database system is not yet accepting connections", "retry", ""),
    ("FATAL:  sorry, too many clients already", "retry", "max_connections"),
    ("FATAL:  remaining connection slots are reserved for roles with SUPERUSER", "retry", "max_connections"),
    ('FATAL:  too many connections for role "a"', "retry", "max_connections"),
    ("server closed the connection unexpectedly", "retry", ""),
    ("SSL SYSCALL error: EOF detected", "retry", ""),
    ("failed to resolve host 'h': [Errno -3] Temporary failure in name resolution", "retry", "host"),
    ("session is read-only", "retry", "primary"),
    ("server is in hot standby mode", "retry", "primary"),
    ("FATAL:  server login has been failing, try again later", "retry", ""),
    ('FATAL:  role "a" is not permitted to log in', "operator", "user"),
    ("FATAL:  Tenant or user not found", "operator", "user"),
    ("FATAL:  no such user: a", "operator", "user"),
    ("FATAL:  no such database: a", "operator", "create it"),
    ('FATAL:  database "a" is not currently accepting connections', "operator", "another database"),
    ("FATAL:  unsupported startup parameter: replication", "operator", "pooler"),
    ("ERROR:  Endpoint ID is not specified", "operator", "endpoint%3D"),
    ('root certificate file "/root/.postgresql/root.crt" does not exist', "operator", "sslrootcert=system"),
    ('could not read root certificate file "/x": No such file or directory', "operator", "CA certificate"),
    ('server certificate for "a" does not match host name "b"', "operator", "host"),
    ('weak sslmode "require" may not be used with sslrootcert=system', "operator", "CA certificate"),
    ('could not read certificate file "/x": No such file or directory', "operator", "sslcert"),
    ("connection requires a valid client certificate", "operator", "sslcert"),
    ("SSL error: tlsv1 alert unknown ca", "operator", "sslcert"),
    ("channel binding is required, but server did not offer an authentication method", "operator", "channel"),
    ('authentication method requirement "md5" failed', "operator", "require_auth"),
    ('invalid channel_binding value: "x"', "operator", "parameters"),
    ('invalid integer value "x" for connection option "keepalives_idle"', "operator", "parameters"),
    ("bad value for connect_timeout: 'x'", "operator", "parameters"),
    ('FATAL:  unrecognized configuration parameter "x"', "operator", "parameters"),
    ('FATAL:  invalid value for parameter "work_mem": "x"', "operator", "parameters"),
    ('definition of service "x" not found', "operator", "parameters"),
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
    ("25006", "cannot execute CREATE PUBLICATION in a read-only transaction", "operator"),
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


def test_one_attempt_that_may_succeed_later_is_enough() -> None:
    """A host that refuses the user may be a standby of the host that is not reachable now."""
    text = (
        'FATAL:  database "a" does not exist\nMultiple connection attempts failed. All failures were:\n'
        "- host: 'h', port: None, hostaddr: '::1': connection failed: Connection refused\n"
        "- host: 'h', port: None, hostaddr: '127.0.0.1': FATAL:  database \"a\" does not exist"
    )
    assert from_sqlstate(psycopg.OperationalError(text)).action == "retry"
    assert (
        from_sqlstate(psycopg.OperationalError(text.replace("refused", "no pg_hba.conf"))).action
        == "operator"
    )


@pytest.mark.parametrize(
    ("sqlstate", "text", "expected"),
    [
        (None, "Connection refused", True),
        (None, "FATAL:  the database system is starting up", True),
        (None, "failed to resolve host 'h': [Errno -2] Name or service not known", True),
        (None, "a message that nobody has seen yet", True),
        (None, 'FATAL:  role "a" does not exist', False),
        ("57P03", "the database system is starting up", True),
        ("57P01", "terminating connection due to administrator command", True),
        ("53300", "sorry, too many clients already", True),
        ("55006", 'replication slot "s" is active for PID 4711', True),
        ("53100", "No space left on device", True),
        ("42704", 'publication "p" does not exist', True),
        ("42704", 'replication slot "s" does not exist', True),
        ("58P01", "requested WAL segment 000000010000000000000001 has already been removed", True),
        ("42883", "function pg_catalog.pg_is_in_recovery() does not exist", False),
        ("42P01", 'relation "pg_catalog.pg_replication_slots" does not exist', False),
        ("0A000", "logical decoding is not supported", False),
        ("25006", "cannot execute CREATE PUBLICATION in a read-only transaction", False),
        ("28P01", "password authentication failed", False),
        ("53400", "all replication slots are in use", False),
    ],
)
def test_what_waiting_can_cure(sqlstate: str | None, text: str, expected: bool) -> None:
    rule = rule_for(sqlstate, text)
    assert may_pass(SourceError(text, sqlstate=sqlstate, action=rule.action)) is expected


def test_no_secret_gets_into_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    hiding = Redaction()
    hiding.hide(["zebra-crossing"])
    monkeypatch.setattr("pgshapes.postgres.sqlstate.redaction", hiding)
    error = from_sqlstate(psycopg.OperationalError("failed to resolve host 'zebra-crossing@h'"))
    assert error.message.startswith("failed to resolve host '***@h'")


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
