"""Logs what `pgshapes doctor` would report as failing, once at the start of a server.

After a start it runs in the background; before the error of a start that failed, so that the log has all
reasons and not only the first. It never makes a start fail.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from pgshapes.config import Settings
from pgshapes.doctor.facts import Needs
from pgshapes.doctor.finding import Finding, failing
from pgshapes.errors import ConfigError, PgShapesError, SourceError
from pgshapes.logs import get_logger
from pgshapes.owner.replicator import ALTERATIONS, Replicator
from pgshapes.owner.session import PUBLICATION_PREFIX, SLOT_PREFIX
from pgshapes.postgres.doctor import examine_database
from pgshapes.postgres.pooler import ThroughPooler
from pgshapes.waiting.background import begin, holds_nothing

_log = get_logger(__name__)

FAILED_START_TIMEOUT_S: Final = 10.0
_SESSION_CONNECTIONS: Final = 2
"""The walsender and the lock."""


def needs_of(settings: Settings) -> Needs:
    """What a server with these settings needs of its database."""
    subsets = max(settings.db_pool_size // 4, settings.workers, 1)
    sessions = settings.db_pool_size + subsets + ALTERATIONS + _SESSION_CONNECTIONS
    searches = 1 + max(settings.workers, 1)  # for sessions that wait for snapshots, and for subsets
    checks = sessions  # one for each that is silent: without it, the session is given up
    return Needs(
        slot=SLOT_PREFIX + settings.replication_stream_id,
        publication=PUBLICATION_PREFIX + settings.replication_stream_id,
        is_manual=settings.manual_table_publishing,
        allows_no_key=settings.allow_tables_without_key,
        connections=sessions + searches + checks,
    )


async def run_reported(replicator: Replicator, settings: Settings, *, is_restart: bool = False) -> None:
    """Run the replicator until it is stopped; report once what is wrong with its database.

    After a restart nothing is reported: the first process did it. Raises what `replicator.run` raises.
    """
    report = begin(_report_once_started(replicator, settings, is_wanted=not is_restart), at_end=holds_nothing)
    try:
        await replicator.run()
    except ConfigError as error:
        if not is_restart:
            await report_failed_start(settings, error)
        raise
    finally:
        report.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await report


async def _report_once_started(replicator: Replicator, settings: Settings, *, is_wanted: bool) -> None:
    await replicator.started.wait()
    if is_wanted:
        try:
            await report_after_start(settings)
        except Exception:
            _log.exception("background task failed", task="checks of the database")


async def report_after_start(settings: Settings) -> None:
    """Log the failing checks of a server that has started."""
    with contextlib.suppress(PgShapesError):
        _log_failing(await examine_database(settings.database_url, needs_of(settings)))


async def report_failed_start(settings: Settings, error: PgShapesError) -> None:
    """Log the failing checks after a start that failed with `error`, unless the database was not reached.

    Nothing is sent through a pooler, which is the reason that counts.
    """
    if isinstance(error, ThroughPooler) or _is_unreachable(error):
        return
    with contextlib.suppress(PgShapesError, TimeoutError):
        async with asyncio.timeout(FAILED_START_TIMEOUT_S):
            _log_failing(await examine_database(settings.database_url, needs_of(settings)))


def _is_unreachable(error: PgShapesError) -> bool:
    source = error if isinstance(error, SourceError) else error.__cause__
    return isinstance(source, SourceError) and source.sqlstate is None


def _log_failing(found: Sequence[Finding]) -> None:
    for finding in failing(found):
        _log.warning(
            "database check failed", check=finding.subject, problem=finding.text, run=" ".join(finding.sql)
        )
