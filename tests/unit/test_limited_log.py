"""A cause is logged once a minute, however often it occurs."""

from __future__ import annotations

from typing import Any

import pytest

from pgshapes import limited_log
from pgshapes.limited_log import CAUSES, INTERVAL_S, LimitedLog


class Lines:
    """A logger that keeps its lines, and a clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.written: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.written.append((event, fields))

    def clock(self) -> float:
        return self.now_s


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_a_cause_is_logged_again_after_a_while_with_the_number_left_out(lines: Lines) -> None:
    log = LimitedLog(lines, clock=lines.clock)
    for _ in range(5):
        log.note("failed", "a", error="first")
    log.note("failed", "b", error="other")
    log.note("stopped", "a", error="third")
    assert lines.written == [
        ("failed", {"error": "first"}),
        ("failed", {"error": "other"}),
        ("stopped", {"error": "third"}),
    ]
    lines.now_s = INTERVAL_S
    log.note("failed", "a", error="again")
    assert lines.written[3:] == [("failed", {"error": "again", "left_out": 4})]
    lines.now_s = 2 * INTERVAL_S
    log.note("failed", "a", error="late")
    assert lines.written[4:] == [("failed", {"error": "late"})]


def test_the_causes_are_limited(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_log, "CAUSES", 3)
    log = LimitedLog(lines, clock=lines.clock)
    for cause in range(10):
        log.note("failed", cause)
    assert len(log._due._seen) == 3 < CAUSES
    log.note("failed", 0)
    log.note("failed", 9)
    assert len(lines.written) == 11
