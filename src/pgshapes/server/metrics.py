"""Metrics of the processes: what callers count, how children report it, and the `/metrics` listener.

Counts nothing itself. A child process answers on a unix socket, one answer per connection; the supervisor
asks them and answers on a port of its own. That port is not part of the application: it answers also while
the application is starting, busy or being restarted. Anything but GET `/metrics` is 404.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pgshapes.config import Settings
from pgshapes.gates.admission import AdmissionControl, Kind
from pgshapes.gates.readiness import StatusMonitor
from pgshapes.metrics.family import COUNTER, GAUGE, Family, counter, gauge, histogram, labelled
from pgshapes.server.http_server import listen
from pgshapes.shape_cache.shape_cache import ShapeCache


@dataclass(frozen=True, slots=True)
class CallerParts:
    """What a caller's process consists of."""

    shapes: ShapeCache
    readiness: StatusMonitor
    admission: AdmissionControl


def caller_families(parts: CallerParts) -> list[Family]:
    """All of them."""
    return [*_shape_cache(parts.shapes), *_readiness(parts.readiness), *_admission(parts.admission)]


def _shape_cache(cache: ShapeCache) -> list[Family]:
    counts, flights, look_ups = cache.counts, cache.flights, cache.definitions.flights
    return [
        counter("shape_cache_hits", "Requests that a table read answered.", counts.hits),
        counter("shape_cache_flights", "Waits of this process for a shape.", flights.begun),
        counter("shape_cache_joined", "Callers that found a flight under way.", flights.joined),
        gauge("shape_cache_flights_now", "Flights under way.", flights.under_way),
        gauge("shape_cache_waiters_now", "Callers that wait for a shape.", flights.waiters),
        counter("shape_cache_late", "Callers whose deadline came first.", counts.late),
        counter("shape_cache_lock_hits", "Flights that found the lock set: no message.", counts.lock_hits),
        counter("shape_cache_owner_calls", "Calls to create a shape or wait for one.", counts.owner_calls),
        counter("shape_cache_owner_losses", "Those during which the owner was lost.", counts.owner_losses),
        histogram("shape_cache_polls", "Looks at the lock per flight that polled.", counts.polls_per_wait),
        histogram("shape_cache_wait_seconds", "Waits of callers for a shape.", counts.wait_s),
        counter("definition_calls", "Calls to look a definition up.", cache.definitions.calls),
        counter("definition_look_ups", "Look-ups begun by this process.", look_ups.begun),
        counter("definition_look_ups_joined", "Callers that found one under way.", look_ups.joined),
    ]


def _readiness(monitor: StatusMonitor) -> list[Family]:
    return [
        gauge("readiness_parked", "Requests parked until the service is ready.", monitor.parked),
        gauge("readiness_polling", "Requests that poll for it.", monitor.polling),
        gauge("readiness_congested", "Whether new ones have to poll.", int(monitor.is_congested)),
    ]


def _admission(admission: AdmissionControl) -> list[Family]:
    """Permits in use are those of this process: the processes' sum is what the limits are for."""
    return [
        labelled(
            GAUGE,
            "admission_in_use",
            "Permits of this process that are out.",
            "kind",
            {kind.value: admission.own(kind) for kind in Kind},
        ),
        labelled(
            GAUGE,
            "admission_limit",
            "Permits that may be out, over all processes.",
            "kind",
            {kind.value: admission.limit(kind) for kind in Kind},
        ),
        labelled(
            COUNTER,
            "admission_refused",
            "Requests that found no permit.",
            "kind",
            {kind.value: admission.refused(kind) for kind in Kind},
        ),
    ]


ANSWER_TIMEOUT_S: Final = 2.0
"""A process that is too busy to answer is told from one that is not there by nobody: it is not up."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Family]).decode


@asynccontextmanager
async def metrics_socket(path: Path, families: Callable[[], list[Family]]) -> AsyncIterator[None]:
    """Answer at `path` for as long as the block lasts."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_encode(families()))
        writer.close()

    _take_away(path)
    server = await asyncio.start_unix_server(tell, path)
    try:
        yield
    finally:
        server.close()


def _take_away(path: Path) -> None:
    """What a process before us has left."""
    path.unlink(missing_ok=True)


async def ask_for_metrics(path: Path) -> Sequence[Family] | None:
    """The families of the process that answers at `path`, None when none does."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return _decode(await reader.read(-1))
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None


Gather = Callable[[], Awaitable[Mapping[str, Sequence[Family] | None]]]
"""The families of each process by its name, None for one that does not answer."""

_HEAD_TIMEOUT_S: Final = 5.0


def listen_for_metrics(settings: Settings) -> socket.socket | None:
    """The bound socket, None when no port is set. Raises ConfigError."""
    if settings.prometheus_port is None:
        return None
    return listen(settings.host, settings.prometheus_port)


@asynccontextmanager
async def metrics_listener(listener: socket.socket, gather: Gather) -> AsyncIterator[None]:
    """Answer on a socket that is bound already, for as long as the block lasts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await _response(head, gather))
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            """Whoever does not send a request, or leaves, gets no answer."""
        finally:
            writer.close()

    server = await asyncio.start_server(answer, sock=listener)
    try:
        yield
    finally:
        server.close()


async def _response(head: bytes, gather: Gather) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    with suppress(IndexError):
        if words[0] == b"GET" and words[1].split(b"?")[0] == b"/metrics":
            # The library takes a while to load, and most servers are never asked.
            from pgshapes.metrics.exposition import CONTENT_TYPE, exposition  # noqa: PLC0415

            return _http(b"200 OK", CONTENT_TYPE, exposition(await gather()))
    return _http(b"404 Not Found", "text/plain", b"Not found")


def _http(status: bytes, content_type: str, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
        b"connection: close\r\n\r\n%b" % (status, content_type.encode(), len(body), body)
    )
