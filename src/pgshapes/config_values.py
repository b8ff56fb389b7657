"""Parsers for the values of settings. Pure, except that a file has to be readable.

Every parser returns the value, or raises ValueError with a text that follows the setting's name and says what
is allowed. The text never contains the value, which may be secret. `config.py` assigns parsers to settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, NamedTuple


class ConcurrencyLimits(NamedTuple):
    """The maximum numbers of requests in flight."""

    initial: int = 300
    """Requests that may cause work: without a handle, or with an unknown one."""
    existing: int = 10_000
    """Requests on shapes that exist, held long polls included."""

    def as_json(self) -> str:
        """The value as text for the setting."""
        return json.dumps(self._asdict())


def parse_text(text: str) -> str:
    """Return the text unchanged."""
    return text


def parse_boolean(text: str) -> bool:
    """True for `true`, `1`, `yes` and `on`; False for `false`, `0`, `no` and `off`."""
    lowered = text.strip().lower()
    if lowered in ("true", "1", "yes", "on"):
        return True
    if lowered in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def parse_count(text: str) -> int:
    """A whole number, zero or more."""
    if not re.fullmatch(r"[0-9][0-9_]*", text.strip()):
        raise ValueError("must be a whole number, zero or more")
    return int(text)


def parse_positive(text: str) -> int:
    """A whole number, one or more."""
    count = parse_count(text)
    if count < 1:
        raise ValueError("must be a whole number, one or more")
    return count


def parse_port(text: str) -> int:
    """A TCP port; 0 selects a free port."""
    if text.startswith(("tcp://", "udp://")):
        raise ValueError(
            "is a service link of Kubernetes, not a port: rename the service or set enableServiceLinks: false"
        )
    if not text.strip().isascii() or not text.strip().isdigit() or int(text) > 65535:
        raise ValueError("must be a port number, 0 to 65535")
    return int(text)


_PREFIXES: Final = ("PGSHAPES_", "ELECTRIC_")
_RESTRICTING: Final = frozenset(
    {"AUTH", "CA", "CACERT", "CERT", "CERTIFICATE", "CERTIFICATES", "JWT", "REQUIRE", "SECRET"}
    | {"SECRETS", "SECURE", "SECURITY", "SSL", "SSLMODE", "TLS", "VERIFY"}
)
"""Words in the names of settings that restrict who is believed or let in."""
_OF_SERVICE_LINKS: Final = frozenset({"PORT", "SERVICE"})
"""Kubernetes sets `ELECTRIC_AUTH_SERVICE_HOST` and its like for a service `electric-auth`."""
_OFF: Final = frozenset({"", "0", "false", "no", "off", "disable", "disabled", "insecure"})


def find_unknown_restrictions(env: Mapping[str, str], known: Collection[str]) -> list[str]:
    """The variables that would make a server stricter, and that are not known.

    Without them it would start with less protection than its operator asked for. `DATABASE_REQUIRE_SSL` is
    that of older Electric servers.
    """
    return sorted(
        name
        for name, value in env.items()
        if (name.startswith(_PREFIXES) or name == "DATABASE_REQUIRE_SSL")
        and name not in known
        and _RESTRICTING.intersection(name.split("_"))
        and not _OF_SERVICE_LINKS.intersection(name.split("_"))
        and value.strip().lower() not in _OFF
    )


_MS_PER_UNIT: Final = {"": 1, "ms": 1, "msec": 1, "s": 1000, "sec": 1000, "m": 60_000, "min": 60_000}
_BYTES_PER_UNIT: Final = {
    "": 1,
    "KB": 10**3,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
}


def parse_readable_file(text: str) -> Path:
    """The path of a file that exists and can be read; absolute, so that it does not depend on the process."""
    path = Path(text).absolute()
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}") from None


def parse_duration_ms(text: str) -> int:
    """Milliseconds from a number with `ms`, `msec`, `s`, `sec`, `m` or `min`; the default unit is `ms`."""
    return _scale(text, _MS_PER_UNIT, "must be a duration such as 20000, 20s or 1min")


def parse_size_bytes(text: str) -> int:
    """Bytes from a number with `KB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`; the default unit is bytes."""
    return _scale(text, _BYTES_PER_UNIT, "must be a size such as 10485760, 10MiB or 1GB")


def _scale(text: str, units: Mapping[str, int], message: str) -> int:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2] not in units:
        raise ValueError(message)
    return int(float(found[1]) * units[found[2]]) if "." in found[1] else int(found[1]) * units[found[2]]


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses and networks such as `10.0.0.0/8`, separated by commas; `none` for none."""
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(ip_network(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError("must be none, or addresses and networks such as 10.0.0.5,fd00::/8") from None


def parse_concurrency_limits(text: str) -> ConcurrencyLimits:
    """Both limits, from a JSON object with exactly the keys `initial` and `existing`."""
    message = f"must be JSON with both keys, such as {ConcurrencyLimits().as_json()}"
    try:
        limits = json.loads(text)
    except ValueError:
        raise ValueError(message) from None
    if not isinstance(limits, dict) or set(limits) != {"initial", "existing"}:
        raise ValueError(message)
    if not all(type(limit) is int and limit > 0 for limit in limits.values()):
        raise ValueError(message)
    return ConcurrencyLimits(**limits)


def parse_stream_id(text: str) -> str:
    """A suffix for the names of the publication and the slot: characters that Postgres allows in slot names,
    in lower case.
    """
    lowered = text.strip().lower()
    if not re.fullmatch(r"[a-z0-9_]{1,40}", lowered):
        raise ValueError("must be 1 to 40 letters, digits or underscores")
    return lowered


# Includes the names that Electric accepts, each with the nearest level of Python's logging.
_LOG_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "notice": "info",
    "warning": "warning",
    "warn": "warning",
    "error": "error",
    "critical": "critical",
    "alert": "critical",
    "emergency": "critical",
}


def parse_log_level(text: str) -> str:
    """The name of a log level."""
    level = _LOG_LEVELS.get(text.strip().lower())
    if level is None:
        raise ValueError("must be debug, info, warning, error or critical")
    return level
