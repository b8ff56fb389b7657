"""Pauses grow with failures, and a success makes them short again."""

from __future__ import annotations

import pytest

from pgshapes.waiting.backoff import Backoff


@pytest.fixture(autouse=True)
def without_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)


def test_pauses_double_up_to_the_cap() -> None:
    backoff = Backoff(0.5, 10)
    assert [backoff.next_s() for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_what_had_worked_is_tried_again_at_once() -> None:
    backoff = Backoff(0.5, 10, stable_s=1)
    for _ in range(5):
        backoff.next_s()
    backoff.note_worked(0.9)
    assert backoff.next_s() == 10
    backoff.note_worked(1.0)
    assert backoff.next_s() == 0.5


def test_each_failure_after_a_success_costs_the_first_pause() -> None:
    backoff = Backoff(0.5, 10, stable_s=1)
    pauses = []
    for _ in range(10):
        backoff.note_worked(2)
        pauses.append(backoff.next_s())
    assert pauses == [0.5] * 10


def test_a_lower_cap_holds_at_once() -> None:
    backoff = Backoff(0.5, 10)
    for _ in range(5):
        backoff.next_s()
    backoff.cap_s = 2
    assert [backoff.next_s(), backoff.next_s()] == [2, 2]
