"""Limits that are declared apart and have to fit together."""

from __future__ import annotations

from pgshapes.gates.time_limits import CREATION_TIMEOUT_S, READY_TIMEOUT_S
from pgshapes.postgres.snapshot import QUEUE_TIMEOUT_S
from pgshapes.shape_cache.definitions import RESOLVE_TIMEOUT_S


def test_a_caller_outwaits_what_its_creation_waits_for() -> None:
    assert QUEUE_TIMEOUT_S < CREATION_TIMEOUT_S


def test_a_look_up_outwaits_an_owner_that_is_away() -> None:
    assert READY_TIMEOUT_S < RESOLVE_TIMEOUT_S
