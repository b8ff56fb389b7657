"""Both kinds of link, each with an owner and a caller in one loop; most tests run with both.

On both event loops, too: production runs on uvloop, whose transports are its own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from tests.support.seams.links import Pair, Script, open_pair


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of the standard library, and uvloop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="pgs") as folder:
        yield Path(folder) / "owner.sock"


@pytest.fixture(params=["in_process", "unix_socket"])
async def pair(request: pytest.FixtureRequest, socket_path: Path) -> AsyncIterator[Pair]:
    """An owner and a caller that is connected to it."""
    async with open_pair(request.param, socket_path, Script()) as pair:
        yield pair


@pytest.fixture
async def unix_pair(socket_path: Path) -> AsyncIterator[Pair]:
    """The same, for cases that only a link between processes has."""
    async with open_pair("unix_socket", socket_path, Script()) as pair:
        yield pair
