"""The layers of the package, lowest first; `docs/architecture.md` shows them as a picture."""

from __future__ import annotations

from typing import Final

# A part sees the layers below its own and the parts that are listed for it, nothing else.
LAYERS: Final[tuple[tuple[str, ...], ...]] = (
    ("model", "errors", "redaction", "logs", "limited_log"),
    ("waiting", "where", "config", "config_values", "database_url", "metrics", "doctor"),
    ("tables", "postgres", "embedded", "shape_log", "gates"),
    ("routing",),
    ("owner", "shape_cache"),
    ("http_api",),
    ("server",),
    ("wiring",),
    ("asgi", "cli"),
)

# Parts of one layer that see each other all the same, and why.
SIBLINGS: Final[dict[tuple[str, str], str]] = {
    ("config", "config_values"): "the settings' parsers are a file of their own",
    ("config", "database_url"): "the form of URLs is a file of its own",
    ("logs", "redaction"): "a value is redacted before it is cut",
    ("gates", "tables"): "readiness is a row of the table `status`, which every process reads",
}

# Stands beside the layers: it talks to a server over HTTP and shares nothing with it but the nouns.
ASIDE: Final[dict[str, frozenset[str]]] = {"client": frozenset({"model", "errors"})}
SEE_WHAT_STANDS_ASIDE: Final = frozenset({"cli"})

# What a layer would allow and the design forbids. Callers reach the owner over a link only, so `owner` sees
# neither `shape_cache` nor `http_api`, nor they it. What is pure writes no log lines.
FORBIDDEN: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        *(("http_api", "postgres"), ("http_api", "routing"), ("http_api", "owner")),
        *(("shape_cache", "routing"), ("shape_cache", "owner"), ("owner", "shape_cache")),
        *((pure, "logs") for pure in ("model", "where", "routing", "doctor")),
    }
)

# Parts that compute and do nothing else: no clock, file, socket, task, or log line.
PURE: Final = frozenset({"model", "where", "routing", "doctor"})
IMPURE_MODULES: Final = frozenset(
    {"asyncio", "httpx", "logging", "os", "psycopg", "selectors", "shutil", "signal", "socket", "sqlite3"}
    | {"structlog", "subprocess", "tempfile", "threading", "time", "uvicorn", "uvloop"}
)

# Libraries that only one part may know.
ONLY_IN: Final[dict[str, frozenset[str]]] = {
    "psycopg": frozenset({"postgres", "embedded"}),
    "postgast": frozenset({"where"}),
    "rich": frozenset({"cli"}),
    "click": frozenset({"cli"}),
    "uvicorn": frozenset({"server", "wiring"}),
    "structlog": frozenset({"logs", "server"}),
}


def rank(part: str) -> int:
    """The number of the part's layer, the lowest is 0."""
    for number, layer in enumerate(LAYERS):
        if part in layer:
            return number
    raise LookupError(f"{part} has no layer: give it one in tests/architecture/layers.py")


def may_import(part: str, other: str) -> bool:
    """Whether the design lets `part` import `other`."""
    if part in ASIDE:
        return other in ASIDE[part]
    if other in ASIDE:
        return part in SEE_WHAT_STANDS_ASIDE
    if (part, other) in FORBIDDEN:
        return False
    return rank(other) < rank(part) or (part, other) in SIBLINGS
