"""Which parameters of a database URL reach libpq, and what is said about the others."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from pgshapes.config import Settings
from pgshapes.errors import ConfigError
from pgshapes.postgres.connection import connection_string
from pgshapes.postgres.database_url import connectable, failure_to_connect, libpq_parameters

URL = "postgresql://me:hush@db:5432/app"
SYSTEM_FILE = ssl.get_default_verify_paths().cafile

DROPPED = [
    "schema=public",
    "pgbouncer=true&connection_limit=1",
    "pool=5",
    "pool_timeout=30&max_pool=9",
    "supa=base-pooler.x",
    "uselibpqcompat=true",
    "prepared_statements=false&statement_cache_size=0",
    "prepared_statement_cache_size=0&sslaccept=accept_invalid_certs",
    "opts=a&foo=bar",
    "pgbouncer",
    "socketTimeout=10&ApplicationName=x",
]
KEPT = [
    "sslmode=verify-full&sslrootcert=/ca.pem",
    "sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem",
    "channel_binding=require&target_session_attrs=read-write",
    "connect_timeout=3&application_name=x&keepalives_idle=1",
    "sslnegotiation=direct&sslsni=0&gssencmode=disable&require_auth=scram-sha-256",
    "passfile=/p&requirepeer=pg&tcp_user_timeout=5",
]


@pytest.fixture(autouse=True)
def _no_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGTARGETSESSIONATTRS", raising=False)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


def settings(url: str, **others: Any) -> Settings:
    return Settings(database_url=url, insecure=True, **others)


def parameters(query: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in query.split("&"))


@pytest.mark.parametrize("query", DROPPED)
def test_what_libpq_does_not_know_is_dropped_with_one_warning(query: str, logs: list[Any]) -> None:
    assert connectable(settings(f"{URL}?{query}")).database_url == URL
    (line,) = logs
    names = [pair.partition("=")[0] for pair in query.split("&")]
    assert line["event"] == "parameters that libpq does not know are ignored"
    assert line["database_url"] == ", ".join(names)
    assert "hint" not in line


@pytest.mark.parametrize("query", KEPT)
def test_what_libpq_knows_reaches_it(query: str, logs: list[Any]) -> None:
    made = connectable(settings(f"{URL}?pool=5&{query}"))
    wanted = {"user": "me", "password": "hush", "host": "db", "port": "5432", "dbname": "app"}
    assert libpq_parameters(made.database_url) == {**wanted, **parameters(query)}
    assert len(logs) == 1


def test_names_of_both_urls_are_in_one_line_and_no_values(logs: list[Any]) -> None:
    pooled = f"{URL}?pgbouncer=hush1&<hush>=1"
    made = connectable(settings(f"{URL}?schema=hush2", pooled_database_url=pooled))
    (line,) = logs
    assert (line["database_url"], line["pooled_database_url"]) == ("schema", "pgbouncer, (not a name)")
    assert line["hint"] == "tables outside the schema public have to be requested as schema.table"
    assert "hush" not in repr(line)
    assert made.pooled_database_url == URL
    assert connectable(made) == made
    assert len(logs) == 1


def test_nothing_is_said_about_a_plain_url(logs: list[Any]) -> None:
    assert connectable(settings(f"{URL}?ssl=true")).database_url == f"{URL}?sslmode=require"
    assert logs == []


@pytest.mark.parametrize(
    "query", ["", "?sslmode=require", "?ssl=true", "?sslrootcert=/other", "?sslrootcert=system"]
)
def test_a_ca_certificate_makes_every_connection_verify_the_server(query: str) -> None:
    file = Path("/root.pem")
    made = connectable(
        settings(URL + query, pooled_database_url=URL + query, database_ca_certificate_file=file)
    )
    for url in (made.database_url, made.pooled_database_url):
        given = libpq_parameters(url or "")
        assert (given["sslmode"], given["sslrootcert"]) == ("verify-full", "/root.pem")
    assert connectable(made) == made


def test_verify_ca_stays() -> None:
    url = f"{URL}?sslmode=verify-ca"
    made = connectable(settings(url, database_ca_certificate_file=Path("/root.pem")))
    assert libpq_parameters(made.database_url)["sslmode"] == "verify-ca"
    made = connectable(settings("host=db user=me", database_ca_certificate_file=Path("/root.pem")))
    assert libpq_parameters(made.database_url)["sslmode"] == "verify-full"


@pytest.mark.parametrize(
    "query", ["sslrootcert=system", "sslmode=verify-full&sslrootcert=system", "sslaccept=strict"]
)
def test_the_certificates_of_the_system_are_found(query: str) -> None:
    given = libpq_parameters(f"{URL}?{query}")
    assert given["sslmode"] == "verify-full"
    if psycopg.pq.__impl__ == "binary" and SYSTEM_FILE is not None:
        assert given["sslrootcert"] == SYSTEM_FILE


def test_the_certificates_of_the_system_need_verify_full() -> None:
    with pytest.raises(ConfigError, match="needs sslmode=verify-full"):
        libpq_parameters(f"{URL}?sslmode=require&sslrootcert=system")


def test_of_several_hosts_the_primary_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    several = "postgresql://me@a:1,b:2/app"
    assert libpq_parameters(several)["target_session_attrs"] == "primary"
    assert libpq_parameters(f"{several}?target_session_attrs=any")["target_session_attrs"] == "any"
    assert "target_session_attrs" not in libpq_parameters(URL)
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "any")
    assert "target_session_attrs" not in libpq_parameters(several)


def test_the_last_of_equal_parameters_counts() -> None:
    assert libpq_parameters(f"{URL}?port=1&port=2")["port"] == "2"


@pytest.mark.parametrize("name", ["database_url", "pooled_database_url"])
def test_settings_made_by_hand_are_checked_too(name: str) -> None:
    made: dict[str, Any] = {"database_url": URL, name: "postgresql://me:h@ush@db/app"}
    with pytest.raises(ConfigError, match=f"^{name} contains a raw @") as refused:
        connectable(Settings(insecure=True, **made))
    assert "ush@" not in refused.value.message


def test_a_failure_to_connect_quotes_neither_password_nor_options() -> None:
    text = connection_string(
        "postgresql://me:pass%20word@db/app?options=-c my.token=zebra77 -c work_mem=zebra88"
    )
    said = 'FATAL:  invalid value for parameter "work_mem": "zebra77", "zebra88", pass word for "me"'
    error = failure_to_connect(psycopg.OperationalError(said), text)
    assert error.message.startswith(
        'FATAL:  invalid value for parameter "work_mem": "***", "***", *** for "me"'
    )
