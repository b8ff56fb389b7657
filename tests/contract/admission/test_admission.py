"""Admission control with the counts of one process and with those of several."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgshapes.errors import ConfigError, Overloaded
from pgshapes.gates.admission import AdmissionControl, Kind, LocalCounts, PermitCounts, SharedCounts

Open = Callable[[int], SharedCounts]


@pytest.fixture
def counts_path(tmp_path: Path) -> Path:
    path = tmp_path / "permits"
    SharedCounts.create(path, 4)
    return path


@pytest.fixture
def open_counts(counts_path: Path) -> Iterator[Open]:
    opened: list[SharedCounts] = []

    def open_slot(slot: int) -> SharedCounts:
        opened.append(SharedCounts(counts_path, slot))
        return opened[-1]

    yield open_slot
    for counts in opened:
        counts.close()


@pytest.fixture(params=["local", "shared"])
def counts(request: pytest.FixtureRequest, open_counts: Open) -> PermitCounts:
    return LocalCounts() if request.param == "local" else open_counts(2)


@pytest.fixture
def control(counts: PermitCounts) -> AdmissionControl:
    return AdmissionControl(initial_limit=3, existing_limit=5, counts=counts)


@pytest.mark.parametrize(("kind", "limit"), [(Kind.INITIAL, 3), (Kind.EXISTING, 5)])
def test_requests_are_admitted_up_to_the_limit(control: AdmissionControl, kind: Kind, limit: int) -> None:
    permits = [control.acquire(kind) for _ in range(limit)]
    with pytest.raises(Overloaded) as caught:
        control.acquire(kind)
    assert caught.value.code == "concurrent_request_limit_exceeded"
    assert caught.value.message == (
        f"Concurrent {kind.value} request limit exceeded (limit: {limit}), please retry"
    )
    assert caught.value.known and caught.value.retry_after_s >= 1
    assert (control.in_use(kind), control.refused(kind)) == (limit, 1)
    permits[0].release()
    control.acquire(kind).release()
    assert control.in_use(kind) == limit - 1


def test_releasing_twice_returns_one_permit(control: AdmissionControl) -> None:
    kept, permit = control.acquire(Kind.INITIAL), control.acquire(Kind.INITIAL)
    permit.release()
    permit.release()
    assert control.in_use(Kind.INITIAL) == 1
    kept.release()
    assert control.in_use(Kind.INITIAL) == 0


def test_swapping_moves_the_count_from_one_kind_to_the_other(control: AdmissionControl) -> None:
    permit = control.acquire(Kind.INITIAL)
    assert permit.swap_to_existing()
    assert permit.swap_to_existing()
    assert (control.in_use(Kind.INITIAL), control.in_use(Kind.EXISTING)) == (0, 1)
    permit.release()
    assert (control.in_use(Kind.INITIAL), control.in_use(Kind.EXISTING)) == (0, 0)


def test_a_permit_keeps_its_kind_at_the_limit_of_existing_ones(control: AdmissionControl) -> None:
    full = [control.acquire(Kind.EXISTING) for _ in range(5)]
    permit = control.acquire(Kind.INITIAL)
    assert not permit.swap_to_existing()
    assert (control.in_use(Kind.INITIAL), control.in_use(Kind.EXISTING)) == (1, 5)
    full[0].release()
    assert permit.swap_to_existing()
    assert (control.in_use(Kind.INITIAL), control.in_use(Kind.EXISTING)) == (0, 5)


def test_a_released_permit_cannot_be_swapped(control: AdmissionControl) -> None:
    permit = control.acquire(Kind.INITIAL)
    permit.release()
    assert not permit.swap_to_existing()
    assert (control.in_use(Kind.INITIAL), control.in_use(Kind.EXISTING)) == (0, 0)


def test_refused_requests_get_increasing_retry_after(counts: PermitCounts) -> None:
    control = AdmissionControl(counts=counts)
    answers: list[int] = []
    for _ in range(400):
        try:
            control.acquire(Kind.INITIAL)
        except Overloaded as refused:
            answers.append(refused.retry_after_s)
    assert len(answers) == 100
    assert len(set(answers)) >= 5
    assert control.in_use(Kind.INITIAL) == 300


def refusals(control: AdmissionControl, count: int) -> list[int]:
    """The `retry-after` of `count` requests, all of which are refused."""
    answers = []
    for _ in range(count):
        with pytest.raises(Overloaded) as caught:
            control.acquire(Kind.INITIAL)
        answers.append(caught.value.retry_after_s)
    return answers


@pytest.mark.parametrize("has_worked", [True, False])
def test_only_permits_used_for_work_shorten_retry_after(counts: PermitCounts, has_worked: bool) -> None:
    """Requests that join others return thousands of permits at once, but no work was completed."""
    now = 100.0
    control = AdmissionControl(initial_limit=30, counts=counts, clock=lambda: now)
    for _ in range(50):
        permits = [control.acquire(Kind.INITIAL) for _ in range(30)]
        now += 0.1 if has_worked else 0.0
        for permit in permits:
            permit.release()
        now += 0.0 if has_worked else 0.1
    for _ in range(30):
        control.acquire(Kind.INITIAL)
    assert (max(refusals(control, 30)) <= 2) == has_worked


def test_the_limit_applies_to_the_sum_over_all_processes(open_counts: Open) -> None:
    one, other = (AdmissionControl(initial_limit=3, counts=open_counts(slot)) for slot in (0, 3))
    permits = [one.acquire(Kind.INITIAL), one.acquire(Kind.INITIAL), other.acquire(Kind.INITIAL)]
    for control in (one, other):
        with pytest.raises(Overloaded):
            control.acquire(Kind.INITIAL)
    permits[0].release()
    other.acquire(Kind.INITIAL)
    assert one.in_use(Kind.INITIAL) == other.in_use(Kind.INITIAL) == 3


def test_resetting_a_slot_clears_the_permits_of_a_dead_process(counts_path: Path, open_counts: Open) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold_and_die, args=(counts_path, 1))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    control = AdmissionControl(initial_limit=3, counts=open_counts(0))
    control.acquire(Kind.INITIAL)
    with pytest.raises(Overloaded):
        control.acquire(Kind.INITIAL)
    SharedCounts.reset(counts_path, 1)
    control.acquire(Kind.INITIAL)
    assert control.in_use(Kind.INITIAL) == 2


def hold_and_die(path: Path, slot: int) -> None:
    """Take two permits and end without returning them."""
    control = AdmissionControl(initial_limit=3, counts=SharedCounts(path, slot))
    control.acquire(Kind.INITIAL)
    control.acquire(Kind.INITIAL)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_counts_file_that_cannot_be_mapped_is_a_config_error(tmp_path: Path, counts_path: Path) -> None:
    with pytest.raises(ConfigError):
        SharedCounts(tmp_path / "missing", 0)
    for slot in (-1, 4):
        with pytest.raises(ConfigError):
            SharedCounts(counts_path, slot)


def test_the_counts_file_is_private_to_its_user(counts_path: Path) -> None:
    assert counts_path.stat().st_mode & 0o777 == 0o600
