"""The settings of a server: their names, sources, allowed values and meanings.

A value comes from the command line, then from `PGSHAPES_<NAME>`, then from the variable that Electric
deployments use. An empty variable counts as not set. Invariant: a `Settings` object is complete and
consistent. Anything else raises ConfigError with one line that says what to do. Settings are frozen; the code
that uses them is elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, NamedTuple

from pgshapes.config_values import (
    ConcurrencyLimits,
    find_unknown_restrictions,
    parse_boolean,
    parse_concurrency_limits,
    parse_count,
    parse_duration_ms,
    parse_log_level,
    parse_networks,
    parse_port,
    parse_positive,
    parse_readable_file,
    parse_size_bytes,
    parse_stream_id,
    parse_text,
)
from pgshapes.database_url import parse_database_url, redact_url, secrets_of, ssl_mode_of
from pgshapes.errors import ConfigError


class Setting(NamedTuple):
    """The description of one field of `Settings`. `docs/configuration.md` is generated from these."""

    name: str
    about: str
    parse: Callable[[str], Any]
    also: tuple[str, ...]
    """Further environment variables, tried in order after `PGSHAPES_<NAME>`."""
    shown_default: str
    is_secret: bool
    """Whether no part of the value may be shown, as it is or contains a password."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, in order of precedence."""
        return (f"PGSHAPES_{self.name.upper()}", *self.also)

    @property
    def flag(self) -> str:
        """The command line option that sets it."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether the option takes no value."""
        return self.parse is parse_boolean


def _setting(
    about: str,
    parse: Callable[[str], Any],
    default: Any = MISSING,
    *,
    also: tuple[str, ...] = (),
    shown: str | None = None,
    is_secret: bool = False,
) -> Any:
    shown_default = shown or ("required" if default is MISSING else str(default))
    metadata = {
        "about": about,
        "parse": parse,
        "also": also,
        "shown_default": shown_default,
        "is_secret": is_secret,
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _default_workers() -> int:
    return max(1, _usable_cores() - 1)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_LOOPBACK: Final = "127.0.0.0/8,::1"
_STORAGE_DIR: Final = Path("persistent")
_LIMITS: Final = ConcurrencyLimits()


@dataclass(frozen=True, repr=False, kw_only=True)
class Settings:
    """All settings of a server. Raises ConfigError when they contradict each other."""

    database_url: str = _setting(
        "Connection URI of the database, `postgresql://user:password@host:5432/database`. Its user needs the"
        " REPLICATION attribute. Used for replication and administration. All parameters of libpq work;"
        " parameters of drivers and ORMs are translated or, with a warning, ignored. Special characters in"
        " user name and password must be percent-encoded.",
        parse_database_url,
        also=("DATABASE_URL",),
        is_secret=True,
    )
    pooled_database_url: str | None = _setting(
        "Connection URI for snapshot queries, for example of a transaction pooler in front of the same"
        " primary.",
        parse_database_url,
        None,
        also=("ELECTRIC_POOLED_DATABASE_URL", "ELECTRIC_QUERY_DATABASE_URL"),
        shown="`database_url`",
        is_secret=True,
    )
    database_ca_certificate_file: Path | None = _setting(  # noqa: RUF009 - it makes a field
        "File with the trusted root certificates, in PEM form. If it is set, all connections to the database"
        " use TLS, and the server's certificate and host name are verified (`sslmode=verify-full`; a"
        " `verify-ca` in the URL stays).",
        parse_readable_file,
        None,
        also=("ELECTRIC_DATABASE_CA_CERTIFICATE_FILE",),
        shown="none",
    )
    db_pool_size: int = _setting(
        "Number of connections for administration and snapshot queries together. The replication connection"
        " is not included, and neither are the connections for subset snapshots: the HTTP processes share a"
        " quarter of this number for those, at least 1 and at most 4 in each process.",
        parse_positive,
        20,
        also=("ELECTRIC_DB_POOL_SIZE",),
    )
    secret: str | None = _setting(
        "Value that requests to `/v1/shape` must send as `secret`. Set either this or `insecure`.",
        parse_text,
        None,
        also=("ELECTRIC_SECRET",),
        shown="none",
        is_secret=True,
    )
    insecure: bool = _setting(
        "Serve without a secret: any client that can reach the port can read every table.",
        parse_boolean,
        False,
        also=("ELECTRIC_INSECURE",),
        shown="false",
    )
    host: str = _setting("Address to listen on.", parse_text, "0.0.0.0")
    port: int = _setting(
        "Port to listen on; 0 selects a free port.", parse_port, 3000, also=("ELECTRIC_PORT",)
    )
    prometheus_port: int | None = _setting(
        "Port of the separate listener for `/metrics`.",
        parse_port,
        None,
        also=("ELECTRIC_PROMETHEUS_PORT",),
        shown="none",
    )
    max_connections: int | None = _setting(
        "Maximum number of connections of clients in each process that answers requests. The default leaves"
        " descriptors for files: the limit of open files less 256 or a quarter of it, half as much with"
        " `workers` = 0.",
        parse_positive,
        None,
        shown="from the limit of open files",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "Addresses and networks of proxies, separated by commas; `none` for none. Their requests count for"
        " the client that they name in `x-forwarded-for`, and for nobody if they name none. Any other client"
        " has at most three times as many connections, requests in flight and bytes of request bodies as are"
        " free: three quarters of the limit if it is alone.",
        parse_networks,
        lambda: parse_networks(_LOOPBACK),
        shown=_LOOPBACK,
    )
    workers: int = _setting(
        "Number of HTTP processes in addition to the replicator; 0 runs everything in one process.",
        parse_count,
        _default_workers,
        shown="cores − 1, at least 1",
    )
    storage_dir: Path = _setting(  # noqa: RUF009 - it makes a field
        "Directory for the shape logs and the catalogue.",
        Path,
        _STORAGE_DIR,
        also=("ELECTRIC_STORAGE_DIR",),
        shown="./persistent",
    )
    allow_delete: bool = _setting(
        "Answer DELETE on `/v1/shape`.",
        parse_boolean,
        False,
        also=("ELECTRIC_ENABLE_INTEGRATION_TESTING",),
        shown="false",
    )
    cache_max_age_s: int = _setting(
        "`max-age` of responses to requests that are not live, in seconds.",
        parse_count,
        60,
        also=("ELECTRIC_CACHE_MAX_AGE",),
    )
    cache_stale_age_s: int = _setting(
        "`stale-while-revalidate` of responses to requests that are not live, in seconds.",
        parse_count,
        300,
        also=("ELECTRIC_CACHE_STALE_AGE",),
    )
    long_poll_timeout_ms: int = _setting(
        "How long a live request is held. A duration: `20000`, `20s`, `1min`.",
        parse_duration_ms,
        20_000,
        also=("ELECTRIC_LONG_POLL_TIMEOUT",),
    )
    chunk_bytes_threshold: int = _setting(
        "Bytes after which a chunk of a shape log is closed. A size: `10485760`, `10MiB`.",
        parse_size_bytes,
        10 * 2**20,
        also=("ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD",),
    )
    max_concurrent_requests: ConcurrencyLimits = _setting(  # noqa: RUF009 - it makes a field
        f"Maximum number of requests in flight, by kind. A JSON object: `{_LIMITS.as_json()}`.",
        parse_concurrency_limits,
        _LIMITS,
        also=("ELECTRIC_MAX_CONCURRENT_REQUESTS",),
        shown=_LIMITS.as_json(),
    )
    max_shapes: int = _setting(
        "Maximum number of shapes to keep; the least recently used are removed first. 50,000 shapes take"
        " 250 MB in the replicator, 100 MB in each HTTP process, and 100,000 files.",
        parse_positive,
        50_000,
        also=("ELECTRIC_MAX_SHAPES", "ELECTRIC_EXPERIMENTAL_MAX_SHAPES"),
    )
    max_retained_wal: int | None = _setting(
        "How much WAL the replication slot may make the primary keep, such as `10GB`. Beyond it, unless that"
        " passes, shapes that hold the slot back are dropped, and if that does not help the slot is"
        " recreated, with all shapes. Without a limit, only `max_slot_wal_keep_size` of Postgres protects the"
        " primary's disk.",
        parse_size_bytes,
        None,
        shown="unlimited",
    )
    max_txn_size_bytes: int = _setting(
        "Accepted for compatibility with Electric deployments and ignored: transactions of any size are"
        " processed.",
        parse_size_bytes,
        250 * 2**20,
        also=("ELECTRIC_EXPERIMENTAL_MAX_TXN_SIZE",),
    )
    replication_stream_id: str = _setting(
        "Suffix of the names of the publication and the replication slot. Each server on a Postgres"
        " cluster needs its own.",
        parse_stream_id,
        "default",
        also=("ELECTRIC_REPLICATION_STREAM_ID",),
    )
    cleanup_replication_slots_on_shutdown: bool = _setting(
        "Use a temporary replication slot. Postgres drops it on shutdown, so every start recreates all"
        " shapes.",
        parse_boolean,
        False,
        also=("CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN",),
        shown="false",
    )
    manual_table_publishing: bool = _setting(
        "Never alter the publication or the replica identity of a table; only check that they are correct.",
        parse_boolean,
        False,
        also=("ELECTRIC_MANUAL_TABLE_PUBLISHING",),
        shown="false",
    )
    allow_tables_without_key: bool = _setting(
        "Follow tables that have neither a primary key nor another unique index on NOT NULL columns. Equal"
        " rows of such a table cannot be told apart: when one is deleted, clients delete all of them.",
        parse_boolean,
        False,
        shown="false",
    )
    log_level: str = _setting(
        "`debug`, `info`, `warning`, `error` or `critical`.",
        parse_log_level,
        "info",
        also=("ELECTRIC_LOG_LEVEL",),
    )

    def __post_init__(self) -> None:
        if self.secret is None and not self.insecure:
            raise ConfigError(
                "no secret: set PGSHAPES_SECRET or --secret (or --insecure: anyone may read every table)"
            )
        if self.secret is not None and self.insecure:
            raise ConfigError("both secret and insecure are set: keep one of them")
        if self.database_ca_certificate_file is not None:
            self._check_that_tls_is_on()

    def _check_that_tls_is_on(self) -> None:
        for name in ("database_url", "pooled_database_url"):
            if ssl_mode_of(getattr(self, name) or "") == "disable":
                raise ConfigError(
                    f"database_ca_certificate_file is set, but {name} has sslmode=disable: remove one of them"
                )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.redacted().items())
        return f"Settings({shown})"

    def redacted(self) -> dict[str, Any]:
        """The fields by name, with the secret and passwords masked."""
        values = {setting.name: getattr(self, setting.name) for setting in settings()}
        values["secret"] = None if self.secret is None else "***"
        for name in ("database_url", "pooled_database_url"):
            values[name] = values[name] and redact_url(values[name])
        return values

    def secrets(self) -> set[str]:
        """The values that must not appear in any text: the secret, and the passwords in the URLs."""
        found = {self.secret} if self.secret else set()
        for url in (self.database_url, self.pooled_database_url):
            found.update(secrets_of(url or ""))
        return found

    @classmethod
    def load(cls, env: Mapping[str, str], flags: Mapping[str, str | bool | None] | None = None) -> Settings:
        """Settings from the environment and command line options (by field name; None means not given).

        Raises ConfigError.
        """
        known = {variable for setting in settings() for variable in setting.variables}
        unknown = find_unknown_restrictions(env, known)
        if unknown:
            raise ConfigError(
                f"{', '.join(unknown)} would make the server stricter, but is not a setting of pgshapes:"
                " remove it, or use one of docs/configuration.md (pgshapes serve --help)"
            )
        given: dict[str, Any] = {}
        for setting in settings():
            source, text = _find(setting, env, flags or {})
            if text is not None:
                given[setting.name] = _parse(setting, source, text)
        if "database_url" not in given:
            raise ConfigError(
                "no database: set DATABASE_URL or give --database-url postgresql://user@host/database"
            )
        return cls(**given)


def settings() -> Iterator[Setting]:
    """All settings, in the order of `Settings`."""
    for each in fields(Settings):
        yield Setting(each.name, **each.metadata)


def _find(
    setting: Setting, env: Mapping[str, str], flags: Mapping[str, str | bool | None]
) -> tuple[str, str | bool | None]:
    flag = flags.get(setting.name)
    if flag is not None:
        return setting.flag, flag
    for variable in setting.variables:
        if env.get(variable, "").strip():
            return variable, env[variable]
    return "", None


def _parse(setting: Setting, source: str, text: str | bool) -> Any:
    if isinstance(text, bool):
        return text
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigError(f"{source} {error}") from None
