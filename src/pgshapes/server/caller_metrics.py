"""What a process that answers requests has counted, as metrics (design §6). Counts nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

from pgshapes.gates.admission_control import AdmissionControl
from pgshapes.gates.permit_counts import Kind
from pgshapes.gates.status_monitor import StatusMonitor
from pgshapes.metrics.family import COUNTER, GAUGE, Family, counter, gauge, histogram, labelled
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
