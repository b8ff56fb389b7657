"""Reads database URLs as people have them: checks their form and translates what drivers add to it.

The form is that of libpq (manual: Connection URIs). There the password ends at the first `@`, so with a raw
`@` or `/` the rest of the password becomes a host or a database. Such a URL is refused here, because every
later message would quote that host. Which parameters exist is known to libpq alone: unknown ones are dropped
in `postgres/database_url.py`. Invariant: no text of an error contains a part of the URL. Pure, except that
PGUSER and PGSERVICE can take the place of a user name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

FORM: Final = "postgresql://user:password@host:5432/database"
_MUST_LOOK_LIKE: Final = f"must look like {FORM}"
_ENCODE: Final = (
    "percent-encode special characters in the user name and the password: %40 for @, %2F for /, %3A for :,"
    " %3F for ?, %23 for #, %25 for %, %20 for a space"
)

# The names that drivers and frameworks use for Postgres: JDBC, Rails, Django, Ecto, and SQLAlchemy with the
# name of a driver after a plus sign.
_SCHEME: Final = re.compile(
    r"(?:jdbc:)?(postgres|postgresql|postgis|psql|pgsql|ecto)(?:\+[a-z0-9_]+)?://", re.IGNORECASE
)
_OF_LIBPQ: Final = ("postgres", "postgresql")
_OTHER_DATABASES: Final = frozenset(
    {"mysql", "mysql2", "mariadb", "sqlite", "sqlite3", "file", "mongodb", "mongodb+srv", "redis", "rediss"}
    | {"sqlserver", "mssql", "oracle", "http", "https", "clickhouse", "cassandra", "snowflake", "libsql"}
)
_PROXIES: Final = frozenset({"prisma", "prisma+postgres", "prisma+postgresql"})
_KEYWORDS: Final = re.compile(r"\s*[a-z_]+\s*=")
"""The beginning of a connection string of keywords and values, which libpq takes as well."""

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_WORDS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on", "required", "no-verify"), "require"),
    **dict.fromkeys(("false", "0", "no", "off"), "disable"),
    **{mode: mode for mode in SSL_MODES},
}
"""Values of `ssl` (asyncpg, node-postgres, JDBC) and `sslmode`, and the `sslmode` of libpq that they mean."""

_MAY_HAVE_RAW_AT: Final = frozenset({"user", "password", "host", "options"})
_SHOWN: Final = frozenset(
    {"host", "hostaddr", "port", "dbname", "user", "sslmode", "sslrootcert", "channel_binding"}
    | {"target_session_attrs", "connect_timeout", "application_name", "load_balance_hosts"}
)
"""Parameters whose values are no secret; all others are masked."""

_SECRET_NAME: Final = "password|secret|_key|token"
_SECRET_VALUES: Final = re.compile(rf"(?:{_SECRET_NAME})\w*\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^'\s]+))")

_Parameters = list[tuple[str, str]]


class SplitUrl(NamedTuple):
    """The parts of a URL as libpq splits it, still percent-encoded."""

    scheme: str
    credentials: str | None
    hosts: str
    path: str
    query: str

    def __repr__(self) -> str:
        return "SplitUrl(***)"


def parse_database_url(text: str) -> str:
    """The URL, with a scheme that libpq knows. Raises ValueError with a text that contains no part of it."""
    stripped = _without_quotes(text.strip())
    if "://" not in stripped and _KEYWORDS.match(stripped):
        return stripped
    scheme = _SCHEME.match(stripped)
    if scheme is None:
        raise ValueError(_wrong_scheme(stripped))
    name = scheme[1].lower()
    url = f"{name if name in _OF_LIBPQ else 'postgresql'}://{stripped[scheme.end() :]}"
    _check(url)
    return url


def split_url(url: str) -> SplitUrl:
    """Split a URL as libpq does."""
    scheme, _, rest = url.partition("://")
    until_slash = rest.partition("/")[0]
    credentials: str | None = None
    if "@" in until_slash:
        credentials, _, rest = rest.partition("@")
    end = re.search(r"[/?]|$", rest)
    assert end is not None
    path, _, query = rest[end.start() :].partition("?")
    return SplitUrl(scheme, credentials, rest[: end.start()], path, query)


def parameters_of(query: str) -> _Parameters:
    """The decoded names and values of a query; a value may contain a raw `=`."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def with_parameters(url: str, parameters: Iterable[tuple[str, str]]) -> str:
    """The URL with these parameters and no others."""
    pairs = "&".join(f"{quote(name, '')}={quote(value, '/:,')}" for name, value in parameters)
    address = url.partition("://")[0] + "://" + _address(split_url(url))
    return f"{address}?{pairs}" if pairs else address


def is_url(text: str) -> bool:
    """Whether a text that was checked is a URL, not keywords and values."""
    return "://" in text and not _KEYWORDS.match(text)


def translated(parameters: Iterable[tuple[str, str]]) -> _Parameters:
    """The parameters of drivers as those of libpq. Raises ValueError.

    `ssl` becomes `sslmode`, unless that is given. Prisma's `sslaccept=strict` verifies the server by the
    certificates of the system.
    """
    given = dict(parameters)
    ssl = given.pop("ssl", None)
    if "sslmode" in given:
        given["sslmode"] = _ssl_mode("sslmode", given["sslmode"])
    elif ssl is not None:
        given["sslmode"] = _ssl_mode("ssl", ssl)
    if given.get("sslaccept") == "strict" and given.get("sslmode") != "disable":
        del given["sslaccept"]
        if not given.get("sslmode", "").startswith("verify-"):
            given["sslmode"] = "verify-full"
        given.setdefault("sslrootcert", "system")
    return list(given.items())


def ssl_mode_of(url: str) -> str | None:
    """The `sslmode` in a URL that was checked; None if it has none."""
    if is_url(url):
        return dict(translated(parameters_of(split_url(url).query))).get("sslmode")
    found = re.search(r"\bsslmode\s*=\s*'?([a-z-]+)", url)
    return found and found[1]


def secrets_of(url: str) -> Iterator[str]:
    """The password and the values of parameters that may be secret, encoded and decoded.

    Not a password that is also the name of the user, the host or the database: these are shown.
    """
    if not is_url(url):
        yield from filter(None, chain.from_iterable(_SECRET_VALUES.findall(url)))
        return
    parts = split_url(url)
    raw = [(parts.credentials or "").partition(":")[2]]
    pairs = (pair.partition("=") for pair in parts.query.split("&"))
    raw += [value for name, _, value in pairs if re.search(_SECRET_NAME, unquote(name))]
    user = (parts.credentials or "").partition(":")[0]
    names = {unquote(name) for name in (user, parts.hosts.partition(":")[0], parts.path.strip("/"))}
    for text in filter(None, raw):
        yield from {text, unquote(text)} - names


def redact_url(url: str) -> str:
    """The URL without its password and values that may be secret; `***` if its form is wrong."""
    if not is_url(url) or not _is_readable(url):
        return "***"
    parts = split_url(url)
    if parts.credentials and ":" in parts.credentials:
        parts = parts._replace(credentials=parts.credentials.partition(":")[0] + ":***")
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    shown = "&".join(f"{name}={value if unquote(name) in _SHOWN else '***'}" for name, _, value in pairs)
    return f"{parts.scheme}://{_address(parts)}" + (f"?{shown}" if shown else "")


def _is_readable(url: str) -> bool:
    try:
        parse_database_url(url)
    except ValueError:
        return False
    return True


def _address(parts: SplitUrl) -> str:
    credentials = "" if parts.credentials is None else f"{parts.credentials}@"
    return f"{credentials}{parts.hosts}{parts.path}"


def _without_quotes(text: str) -> str:
    """The text without the quotes that some readers of `.env` files leave around a value."""
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _wrong_scheme(text: str) -> str:
    scheme = text.partition("://")[0].lower()
    if scheme in _PROXIES:
        return f"is the URL of a proxy that does not speak the protocol of Postgres: it {_MUST_LOOK_LIKE}"
    if scheme in _OTHER_DATABASES and "://" in text:
        return f"begins with {scheme}:// and is no URL of Postgres: it {_MUST_LOOK_LIKE}"
    return _MUST_LOOK_LIKE


def _check(url: str) -> None:
    parts = split_url(url)
    # Spaces in parameters are unambiguous, as in `options=-c work_mem=64MB`.
    if re.search(r"[\x00-\x1f\x7f]|%00", url) or re.search(r"\s", _address(parts)):
        raise ValueError(f"contains a space or a control character: {_ENCODE}")
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise ValueError(f"contains a raw %: {_ENCODE}")
    _check_for_raw_at(parts)
    _check_hosts(parts)
    parameters = parameters_of(parts.query)
    if "replication" in dict(parameters):
        raise ValueError("must not set replication: pgshapes opens its replication connection itself")
    translated(parameters)
    if not _has_user(parts.credentials, dict(parameters)):
        raise ValueError("has no user name: postgresql://USER:password@host:5432/database")


def _check_for_raw_at(parts: SplitUrl) -> None:
    if "@" in parts.hosts:
        raise ValueError(f"contains a raw @ in the user name or the password: {_ENCODE}")
    if re.search("[?&#=]", (parts.credentials or "").partition(":")[0]):
        raise ValueError(f"contains a raw @ in a parameter or a raw ? in the user name: {_ENCODE}")
    if "@" in parts.path:
        raise ValueError(f"contains a raw / or @ in the user name or the password: {_ENCODE}")
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if "@" in name or ("@" in value and name not in _MAY_HAVE_RAW_AT):
            raise ValueError(f"contains a raw @ after the first one: {_ENCODE}")


def _check_hosts(parts: SplitUrl) -> None:
    for host_and_port in parts.hosts.split(","):
        if host_and_port.startswith("["):
            host, bracket, rest = host_and_port[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"has a host with unbalanced brackets; {_ENCODE}")
            port, allowed = rest[1:], r"[\w:.%-]+"
        else:
            host, _, port = host_and_port.partition(":")
            allowed = r"|[\w.-]+|[/@].*"
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"has a port that is not a number from 1 to 65535; {_ENCODE}")
        if not re.fullmatch(allowed, unquote(host)):
            raise ValueError(f"has a host with a character that no host name has; {_ENCODE}")


def _has_user(credentials: str | None, parameters: dict[str, str]) -> bool:
    if (credentials or "").partition(":")[0] or parameters.keys() & {"user", "service"}:
        return True
    return bool(os.environ.get("PGUSER") or os.environ.get("PGSERVICE"))


def _ssl_mode(name: str, value: str) -> str:
    mode = _SSL_WORDS.get(value.lower().replace("_", "-"))
    if mode is None:
        raise ValueError(f"has a value of {name} that is not known: use sslmode={', '.join(SSL_MODES)}")
    return mode
