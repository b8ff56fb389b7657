"""The server for the HTTP cases: insecure, with deletion, small chunks and short cache times."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.cases.player import play
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

MODES = [
    pytest.param(0, id="one-process", marks=pytest.mark.xdist_group("cases in one process")),
    pytest.param(2, id="workers", marks=pytest.mark.xdist_group("cases with workers")),
]


@pytest.fixture(scope="module", params=MODES)
def cases_server(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> Iterator[Server]:
    """One server for all cases: `.url`, `.database_url`, `.publication`."""
    with (
        fresh_database(postgres_server) as url,
        running_server(
            url,
            workers=request.param,
            allow_delete=True,
            allow_tables_without_key=True,
            chunk_bytes_threshold=10_000,
            cache_max_age_s=1,
            cache_stale_age_s=3,
        ) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def slow_cases(request: pytest.FixtureRequest, cases_server: Server) -> Iterator[dict[str, Future[None]]]:
    """The slow ones of the selected cases, by id, played beside all others: they wait for a deadline, each
    on a table of its own.
    """
    cases = {case["id"]: case for case in _selected_cases(request.session) if _is_slow(case)}
    with ThreadPoolExecutor(max(1, len(cases))) as pool:
        yield {
            number: pool.submit(play, case, cases_server.url, cases_server.database_url)
            for number, case in cases.items()
        }


def _selected_cases(session: pytest.Session) -> Iterator[dict[str, Any]]:
    """What the selected tests of this folder play."""
    for item in session.items:
        if item.path.parent != Path(__file__).parent:
            continue
        call = getattr(item, "callspec", None)
        if call is not None and "case" in call.params and not item.get_closest_marker("skip"):
            yield call.params["case"]


def _is_slow(case: dict[str, Any]) -> bool:
    return any(step.get("slow") for step in case.get("steps", [case]))
