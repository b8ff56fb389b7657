"""Makes database URLs that libpq accepts, in the settings and for a single connection.

libpq is asked which parameters exist; the parameters of drivers and ORMs that it does not know are dropped.
The form of a URL is checked in `pgshapes.database_url`. Invariant: no error contains a part of the URL, as
libpq's own messages do.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import psycopg
from psycopg import conninfo, pq

from pgshapes.config import Settings
from pgshapes.database_url import (
    FORM,
    is_url,
    parameters_of,
    parse_database_url,
    split_url,
    translated,
    with_parameters,
)
from pgshapes.errors import ConfigError, SourceError
from pgshapes.logs import get_logger
from pgshapes.postgres.sqlstate import from_sqlstate
from pgshapes.redaction import Redaction

_log = get_logger(__name__)

_SCHEMAS: Final = frozenset({"schema", "currentschema", "search_path", "searchpath"})
_SYSTEM: Final = "system"


def connectable(settings: Settings) -> Settings:
    """The settings with URLs that libpq accepts; logs one warning that names the parameters it dropped.

    Raises ConfigError. Settings that were returned once are returned unchanged.
    """
    file = settings.database_ca_certificate_file
    url, dropped = _read("database_url", settings.database_url, file)
    ignored = {"database_url": dropped}
    pooled_url = settings.pooled_database_url
    if pooled_url is not None:
        pooled_url, ignored["pooled_database_url"] = _read("pooled_database_url", pooled_url, file)
    _warn({name: dropped for name, dropped in ignored.items() if dropped})
    return replace(settings, database_url=url, pooled_database_url=pooled_url)


def libpq_parameters(url: str) -> dict[str, str]:
    """The parameters of a connection to this database. Raises ConfigError."""
    return _parameters(_known(_parsed("DATABASE_URL", url))[0])


def failure_to_connect(error: psycopg.Error, text: str) -> SourceError:
    """The error for a failure to connect with this connection string; quotes no secret and no `options`."""
    ours = from_sqlstate(error)
    parameters = conninfo.conninfo_to_dict(text)
    secrets = {str(parameters.get(name, "")) for name in _secret_names()}
    # Of `-c name=value` the value; what is not of this form may be a part of a value.
    secrets |= {word.partition("=")[2] or word for word in str(parameters.get("options", "")).split()}
    hidden = Redaction()
    hidden.hide(secrets - {str(parameters.get(name)) for name in ("user", "dbname", "host")})
    return SourceError(hidden.redact(ours.message), sqlstate=ours.sqlstate, action=ours.action)


def _read(name: str, url: str, certificates: Path | None) -> tuple[str, list[tuple[str, str]]]:
    """The URL with the parameters that libpq knows, and those that were dropped."""
    kept, dropped = _known(_parsed(name, url))
    parameters = _parameters(kept)
    wanted = _wanted(parameters, certificates)
    if not is_url(kept):
        return conninfo.make_conninfo("", **parameters, **wanted), dropped
    given = dict(parameters_of(split_url(kept).query))
    return with_parameters(kept, {**given, **wanted}.items()), dropped


def _parsed(name: str, url: str) -> str:
    try:
        return parse_database_url(url)
    except ValueError as error:
        raise ConfigError(f"{name} {error}") from None


def _known(url: str) -> tuple[str, list[tuple[str, str]]]:
    if not is_url(url):
        return url, []
    parameters = translated(parameters_of(split_url(url).query))
    kept = [pair for pair in parameters if pair[0] in _known_names()]
    dropped = [pair for pair in parameters if pair[0] not in _known_names()]
    return with_parameters(url, kept), dropped


@cache
def _known_names() -> frozenset[str]:
    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


@cache
def _secret_names() -> frozenset[str]:
    """The parameters that libpq marks as passwords, and the keys of SCRAM."""
    marked = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar == b"*"}
    return frozenset({*marked, "scram_client_key", "scram_server_key"})


def _parameters(url: str) -> dict[str, str]:
    """What libpq reads in the URL, and the defaults that libpq does not have."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # The message of libpq quotes the invalid part, which may be the password.
        raise ConfigError(
            f"DATABASE_URL cannot be read: it must look like {FORM}, with special characters percent-encoded"
        ) from None
    parameters = {name: str(value) for name, value in given.items()}
    return {**parameters, **_wanted(parameters, None)}


def _wanted(parameters: dict[str, str], certificates: Path | None) -> dict[str, str]:
    """The parameters to set or to replace."""
    wanted: dict[str, str] = {}
    if "," in parameters.get("host", "") and "PGTARGETSESSIONATTRS" not in os.environ:
        # Several hosts are a primary and its standbys, and only the primary can be followed.
        wanted["target_session_attrs"] = parameters.get("target_session_attrs", "primary")
    if certificates is not None:
        wanted["sslrootcert"] = str(certificates)
        wanted["sslmode"] = "verify-ca" if parameters.get("sslmode") == "verify-ca" else "verify-full"
    elif parameters.get("sslrootcert") == _SYSTEM:
        wanted |= _system_certificates(parameters.get("sslmode", "verify-full"))
    return wanted


def _system_certificates(mode: str) -> dict[str, str]:
    """`sslrootcert=system` with the file of the operating system.

    The libpq in psycopg's binary package looks for certificates in a directory that does not exist.
    """
    if mode != "verify-full":
        raise ConfigError("DATABASE_URL has sslrootcert=system, which needs sslmode=verify-full")
    file = ssl.get_default_verify_paths().cafile
    if pq.__impl__ != "binary" or file is None:
        return {"sslmode": mode}
    return {"sslmode": mode, "sslrootcert": file}


def _warn(ignored: dict[str, list[tuple[str, str]]]) -> None:
    """Log the names; never a value, which may be secret."""
    if not ignored:
        return
    pairs = [pair for dropped in ignored.values() for pair in dropped]
    fields = {name: ", ".join(map(_shown, dict(dropped))) for name, dropped in ignored.items()}
    if any(name.lower() in _SCHEMAS and value != "public" for name, value in pairs):
        fields["hint"] = "tables outside the schema public have to be requested as schema.table"
    _log.warning("parameters that libpq does not know are ignored", **fields)


def _shown(name: str) -> str:
    return name if name.isidentifier() and len(name) <= 40 else "(not a name)"
