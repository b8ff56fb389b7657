"""Database URLs as people have them: what is read, what is translated, and what is refused in which words."""

from __future__ import annotations

import re

import pytest

from pgshapes.database_url import (
    parameters_of,
    parse_database_url,
    redact_url,
    secrets_of,
    split_url,
    translated,
    with_parameters,
)

PLAIN = "postgresql://me:hush@db:5432/app"

READ = [
    ("postgres://me@db/app", "postgres://me@db/app"),
    ("postgresql+asyncpg://me@db/app", "postgresql://me@db/app"),
    ("postgresql+psycopg://me@db/app", "postgresql://me@db/app"),
    ("postgres+psycopg2://me@db/app", "postgres://me@db/app"),
    ("jdbc:postgresql://db/app?user=me", "postgresql://db/app?user=me"),
    ("ecto://me@db/app", "postgresql://me@db/app"),
    ("psql://me@db/app", "postgresql://me@db/app"),
    ("PostgreSQL://me@db/app", "postgresql://me@db/app"),
    (f"  {PLAIN}\n", PLAIN),
    (f'"{PLAIN}"', PLAIN),
    ("host=db user=me password='a b'", "host=db user=me password='a b'"),
]


@pytest.mark.parametrize(("text", "url"), READ)
def test_a_form_that_is_read(text: str, url: str) -> None:
    assert parse_database_url(text) == url
    assert parse_database_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@db",
        "postgresql://me@db/",
        "postgresql://me@/app?host=/run/pg&port=6432",
        "postgresql://me@%2Frun%2Fpg/app",
        "postgresql://me@[::1]:5432/app",
        "postgresql://me@[fe80::1%25eth0]/app",
        "postgresql://me@a:1,b,c:3/app?target_session_attrs=primary",
        "postgresql://m%40e:p%40%2F%3A%3F%23%5B%5D%25@db/a%2Fb",
        "postgresql://me:p:w@db/app",
        "postgresql://me:p#w@db/app",
        "postgresql://me:p?w@db/app",
        "postgresql://me:[placeholder]@db/app",
        "postgresql://db/app?user=me@tenant&password=p@w",
        "postgresql://me@db/app?options=-c work_mem=64MB -c geqo=off",
        "postgresql://me@bücher.example/app",
        "postgresql://db/app?service=shop",
    ],
)
def test_what_libpq_can_read_is_left_as_it_is(url: str) -> None:
    assert parse_database_url(url) == url


REFUSED = [
    ("postgresql://me:p@zebra@db/app", "raw @"),
    ("postgresql://me:zebra@p@db:5432/app", "raw @"),
    ("postgresql://me:p@zebra/x@db/app", "raw / or @ in the user name or the password"),
    ("postgresql://m@zebra:p@db/app", "raw @"),
    ("postgresql://me:p/zebra@db/app", "raw / or @"),
    ("postgresql://me:12/zebra@db/app", "raw / or @"),
    ("postgresql://me:p@zebra?x@db/app", "raw @"),
    ("postgresql://me:p@zebra?a=x@db/app", "raw @"),
    ("postgresql://db?user=zebra@db", "raw ? in the user name"),
    ("postgresql://me:zebra%@db/app", "a raw %"),
    ("postgresql://me:%zebra@db/app", "a raw %"),
    ("postgresql://me:ze%00bra@db/app", "a space or a control character"),
    ("postgresql://me:ze bra@db/app", "a space"),
    ("postgresql://me:zebra@db\t/app", "a space or a control character"),
    ("postgresql://me:zebra@[::1/app", "unbalanced brackets"),
    ("postgresql://me:zebra@[::1]x/app", "unbalanced brackets"),
    ("postgresql://me:zebra@::1/app", "a port that is not a number from 1 to 65535"),
    ("postgresql://me:x@db:zebra/app", "a port that is not a number from 1 to 65535"),
    ("postgresql://me:x@db:99999/app", "a port that is not a number from 1 to 65535"),
    ("postgresql://me:x@db:0/app", "a port that is not a number from 1 to 65535"),
    ("postgresql://me:zebra/x?y=z", "a port that is not a number from 1 to 65535"),
    ("postgresql://me:x@a,zebra:y/app", "a port that is not a number from 1 to 65535"),
    ("postgresql://me:x@zebra#db/app", "a character that no host name has"),
    ("postgresql://me:x@<zebra>/app", "a character that no host name has"),
    ("postgresql://zebra/app", "no user name"),
    ("postgresql://:zebra@db/app", "no user name"),
    ("postgresql://me:zebra@db/app?replication=database", "must not set replication"),
    ("postgresql://me:zebra@db/app?sslmode=strict", "use sslmode=disable, allow, prefer, require, verify-ca"),
    ("postgresql://me:zebra@db/app?ssl={}", "a value of ssl that is not known"),
    ("mysql://me:zebra@db/app", "begins with mysql://"),
    ("mongodb+srv://me:zebra@db/app", "begins with mongodb+srv://"),
    ("prisma+postgres://zebra?api_key=x", "a proxy that does not speak the protocol of Postgres"),
    ("zebra://me@db/app", "must look like postgresql://user:password@host:5432/database"),
    ("me:zebra@db/app", "must look like postgresql://user:password@host:5432/database"),
    ("psql postgresql://me:zebra@db/app", "must look like postgresql://user:password@host:5432/database"),
    ("", "must look like postgresql://user:password@host:5432/database"),
]


@pytest.fixture(autouse=True)
def _no_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGUSER", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_a_form_that_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        parse_database_url(text)
    message = str(refused.value)
    assert not re.search("zebra|strict|99999", message), message
    assert "\n" not in message


@pytest.mark.parametrize("variable", ["PGUSER", "PGSERVICE"])
def test_the_user_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "me")
    assert parse_database_url("postgresql://db/app") == "postgresql://db/app"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("ssl=true", {"sslmode": "require"}),
        ("ssl=1", {"sslmode": "require"}),
        ("ssl=require", {"sslmode": "require"}),
        ("ssl=no-verify", {"sslmode": "require"}),
        ("ssl=false", {"sslmode": "disable"}),
        ("ssl=prefer", {"sslmode": "prefer"}),
        ("ssl=verify_full", {"sslmode": "verify-full"}),
        ("sslmode=no-verify", {"sslmode": "require"}),
        ("sslmode=VERIFY-CA", {"sslmode": "verify-ca"}),
        ("ssl=true&sslmode=verify-full", {"sslmode": "verify-full"}),
        ("sslaccept=strict", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("sslaccept=strict&sslrootcert=/ca", {"sslmode": "verify-full", "sslrootcert": "/ca"}),
        ("sslaccept=strict&sslmode=disable", {"sslmode": "disable", "sslaccept": "strict"}),
        ("sslaccept=accept_invalid_certs", {"sslaccept": "accept_invalid_certs"}),
        ("options=-c%20a=b&x", {"options": "-c a=b", "x": ""}),
    ],
)
def test_the_parameters_of_drivers_are_translated(query: str, wanted: dict[str, str]) -> None:
    assert dict(translated(parameters_of(query))) == wanted


def test_parameters_are_replaced() -> None:
    assert with_parameters(f"{PLAIN}?x=y", [("options", "-c a=b")]) == f"{PLAIN}?options=-c%20a%3Db"
    assert with_parameters(f"{PLAIN}?x=y", []) == PLAIN


def test_a_split_url_does_not_show_its_password() -> None:
    assert "hush" not in repr(split_url(PLAIN))


def test_keywords_and_values_have_secrets_too() -> None:
    text = r"host=db password='a \' b' sslpassword=key scram_client_key = abc sslkey=/path user=me"
    assert set(secrets_of(text)) == {r"a \' b", "key", "abc"}
    assert redact_url(text) == "***"
