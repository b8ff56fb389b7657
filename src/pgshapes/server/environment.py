"""What a process of the server sets up for itself: log lines, limits of the operating system, the garbage
collector.
"""

from __future__ import annotations

import gc
import logging
import resource
import sys
from typing import Final

import structlog


def configure_logs(level: str) -> None:
    """Set the level and the form for this process."""
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
    """Allow as many open files as the hard limit says: each held poll is one, each busy log two. Returns the
    limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


THRESHOLDS: Final = (10_000, 10, 20)
"""Young objects, looks at those, looks at the middle-aged: about 1 ms, about 10 ms, and a full look each two
million objects more, some hundred megabytes. The defaults, 700, 10 and 10, mean a full look each 70,000.
"""


def tune_gc() -> None:
    """Once all modules are there: what lives now lives for good, and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
