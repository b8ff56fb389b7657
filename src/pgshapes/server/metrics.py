"""The metrics of a caller's process, how children report metrics, and the `/metrics` listener.

Nothing is counted here. A child process sends its metrics to each connection on a unix socket; the supervisor
reads them and answers on a separate port. That listener is not part of the application, so it also answers
while the application is starting, busy or restarting. Anything but GET `/metrics` is 404.
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
from pgshapes.logs import LOST
from pgshapes.metrics.family import COUNTER, GAUGE, Family, counter, gauge, histogram, labelled
from pgshapes.metrics.loop_turns import LoopTurns, loop_families
from pgshapes.server.http_server import listen
from pgshapes.shape_cache.shape_cache import ShapeCache


@dataclass(frozen=True, slots=True)
class CallerParts:
    """The parts of a process that answers requests."""

    shapes: ShapeCache
    readiness: StatusMonitor
    admission: AdmissionControl


def caller_families(parts: CallerParts) -> list[Family]:
    """The metrics of a process that answers requests."""
    return [*_shape_cache(parts.shapes), *_readiness(parts.readiness), *_admission(parts.admission)]


def process_families(turns: LoopTurns) -> list[Family]:
    """The metrics that every process has."""
    lost = counter("log_lines_lost", "Log lines that could not be written.", LOST.count)
    return [*loop_families(turns), lost]


def _shape_cache(cache: ShapeCache) -> list[Family]:
    counts, flights, look_ups = cache.counts, cache.flights, cache.definitions.flights
    return [
        counter("shape_cache_hits", "Requests answered by a table read.", counts.hits),
        counter(
            "shape_cache_flights", "Flights that this process started to wait for a shape.", flights.begun
        ),
        counter("shape_cache_joined", "Callers that joined a flight.", flights.joined),
        gauge("shape_cache_flights_now", "Flights in progress.", flights.under_way),
        gauge("shape_cache_waiters_now", "Callers that wait for a shape.", flights.waiters),
        counter("shape_cache_late", "Callers that timed out before their shape was created.", counts.late),
        counter("shape_cache_lock_hits", "Flights that found the creation lock set.", counts.lock_hits),
        counter("shape_cache_owner_calls", "Calls to create a shape or wait for one.", counts.owner_calls),
        counter(
            "shape_cache_owner_losses", "Calls that lost the connection to the owner.", counts.owner_losses
        ),
        histogram(
            "shape_cache_polls", "Checks of the creation lock per polling flight.", counts.polls_per_wait
        ),
        histogram("shape_cache_wait_seconds", "Time that callers waited for a shape.", counts.wait_s),
        counter("definition_calls", "Calls to look up a definition.", cache.definitions.calls),
        counter("definition_look_ups", "Look-ups that this process started.", look_ups.begun),
        counter("definition_look_ups_joined", "Callers that joined a look-up.", look_ups.joined),
    ]


def _readiness(monitor: StatusMonitor) -> list[Family]:
    return [
        gauge("readiness_parked", "Requests parked until the service is ready.", monitor.parked),
        gauge("readiness_polling", "Requests that poll until the service is ready.", monitor.polling),
        gauge("readiness_congested", "Whether new waiting requests poll.", int(monitor.is_congested)),
    ]


def _admission(admission: AdmissionControl) -> list[Family]:
    """The permits of this process; the limits apply to the sum over all processes."""
    return [
        labelled(
            GAUGE,
            "admission_in_use",
            "Permits in use by this process.",
            "kind",
            {kind.value: admission.own(kind) for kind in Kind},
        ),
        labelled(
            GAUGE,
            "admission_limit",
            "Maximum number of permits in use, over all processes.",
            "kind",
            {kind.value: admission.limit(kind) for kind in Kind},
        ),
        labelled(
            COUNTER,
            "admission_refused",
            "Requests that were refused a permit.",
            "kind",
            {kind.value: admission.refused(kind) for kind in Kind},
        ),
    ]


ANSWER_TIMEOUT_S: Final = 2.0
"""A process that does not answer within this time is reported as not up, even if it is only busy."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Family]).decode


@asynccontextmanager
async def metrics_socket(path: Path, families: Callable[[], list[Family]]) -> AsyncIterator[None]:
    """Send the metrics to each connection on the unix socket `path`, during the block."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_encode(families()))
        writer.close()

    _remove_socket(path)
    server = await asyncio.start_unix_server(send, path)
    try:
        yield
    finally:
        server.close()


def _remove_socket(path: Path) -> None:
    """Remove the socket that an earlier process has left."""
    path.unlink(missing_ok=True)


async def fetch_metrics(path: Path) -> Sequence[Family] | None:
    """The metrics of the process that listens at `path`; None if it does not answer."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return _decode(await reader.read(-1))
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None


CollectMetrics = Callable[[], Awaitable[Mapping[str, Sequence[Family] | None]]]
"""Returns the metrics of each process by its name; None for a process that does not answer."""

_HEAD_TIMEOUT_S: Final = 5.0


def listen_for_metrics(settings: Settings) -> socket.socket | None:
    """The listening socket for `/metrics`; None if no port is set. Raises ConfigError."""
    if settings.prometheus_port is None:
        return None
    return listen(settings.host, settings.prometheus_port)


@asynccontextmanager
async def metrics_listener(listener: socket.socket, collect: CollectMetrics) -> AsyncIterator[None]:
    """Answer GET `/metrics` on `listener` during the block."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await _response(head, collect))
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            """A client that does not send a complete request, or disconnects, gets no response."""
        finally:
            writer.close()

    server = await asyncio.start_server(answer, sock=listener)
    try:
        yield
    finally:
        server.close()


async def _response(head: bytes, collect: CollectMetrics) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    with suppress(IndexError):
        if words[0] == b"GET" and words[1].split(b"?")[0] == b"/metrics":
            # Imported late: the import is slow, and most servers are never scraped.
            from pgshapes.metrics.exposition import CONTENT_TYPE, exposition  # noqa: PLC0415

            return _http(b"200 OK", CONTENT_TYPE, exposition(await collect()))
    return _http(b"404 Not Found", "text/plain", b"Not found")


def _http(status: bytes, content_type: str, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
        b"connection: close\r\n\r\n%b" % (status, content_type.encode(), len(body), body)
    )
