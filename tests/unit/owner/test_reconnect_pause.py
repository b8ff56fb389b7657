"""The pauses between sessions grow only while no session works."""

from __future__ import annotations

import pytest

from pgshapes.owner.reconnect_pause import ReconnectPause


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)


def test_pauses_double_up_to_the_longest_while_no_session_begins() -> None:
    pause = ReconnectPause()
    assert [pause.after(0.0, longest_s=3.0) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_session_that_worked_longer_than_the_last_pause_sets_them_back() -> None:
    pause = ReconnectPause()
    for _ in range(10):
        assert pause.after(3.0, longest_s=10.0) == 0.5


def test_sessions_that_fail_at_once_do_not_set_them_back() -> None:
    pause = ReconnectPause()
    assert [pause.after(0.4, longest_s=10.0) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert pause.after(5.0, longest_s=10.0) == 0.5
