"""Time limits that are declared in different modules and must be consistent."""

from __future__ import annotations

from pgshapes.gates.time_limits import CREATION_TIMEOUT_S, READY_TIMEOUT_S
from pgshapes.postgres.snapshot import QUEUE_TIMEOUT_S
from pgshapes.shape_cache.definitions import RESOLVE_TIMEOUT_S


def test_the_limit_of_a_creation_exceeds_that_of_its_queue() -> None:
    assert QUEUE_TIMEOUT_S < CREATION_TIMEOUT_S


def test_the_limit_of_a_look_up_exceeds_that_for_a_missing_owner() -> None:
    assert READY_TIMEOUT_S < RESOLVE_TIMEOUT_S
