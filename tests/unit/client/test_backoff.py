"""The delay before a retry."""

from __future__ import annotations

import pytest

from pgshapes.client.shape_stream import LONGEST_RETRY_AFTER_S, Backoff, parse_retry_after_s

EPOCH_PLUS_TEN = "Thu, 01 Jan 1970 00:00:10 GMT"


def test_the_bound_doubles_up_to_the_cap() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    assert [backoff.delay_s(attempt) for attempt in range(1, 8)] == [1, 2, 4, 8, 16, 32, 32]
    assert backoff.delay_s(10_000) == 32


def test_the_delay_is_anything_below_the_bound() -> None:
    delays = [Backoff().delay_s(3) for _ in range(200)]
    assert all(0 <= delay < 4 for delay in delays)
    assert len(set(delays)) > 1


def test_a_lower_bound() -> None:
    assert Backoff(chance=lambda: 0.0).delay_s(1, 9.0) == 9.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0),
        ("5", 5.0),
        ("0.5", 0.5),
        ("-5", 0.0),
        ("soon", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("999999", LONGEST_RETRY_AFTER_S),
        (EPOCH_PLUS_TEN, 6.0),
    ],
)
def test_retry_after(text: str | None, seconds: float) -> None:
    assert parse_retry_after_s(text, now=4.0) == seconds


def test_a_date_that_has_passed() -> None:
    assert parse_retry_after_s(EPOCH_PLUS_TEN, now=11.0) == 0.0
