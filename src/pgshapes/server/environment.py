"""Sets up a process of the server: logging, the limit of open files, and the garbage collector."""

from __future__ import annotations

import gc
import logging
import resource
import sys
from typing import Final

import structlog


def configure_logs(level: str) -> None:
    """Configure the level and the format of this process's log lines."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"], sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def raise_nofile_limit() -> int:
    """Raise the soft limit of open files to the hard limit and return it.

    Each held poll uses one file, each log that is written to uses two.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


THRESHOLDS: Final = (10_000, 10, 20)
"""Thresholds of generations 0, 1 and 2. Collections of generations 0 and 1 take about 1 ms and 10 ms; a full
collection runs after two million more objects, some hundred megabytes. With the defaults of 700, 10 and 10 it
runs after 70,000.
"""


def tune_gc() -> None:
    """Exclude all current objects from garbage collection and set `THRESHOLDS`.

    Call it after all modules are imported: those objects live as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
