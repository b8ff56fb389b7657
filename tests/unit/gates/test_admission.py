"""The `retry-after` of refused requests, with a clock that the tests set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgshapes.gates.admission import LONGEST_S, SHORTEST_S, RetryQueue


def retry_queue(limit: int = 300, random: float = 0.5) -> RetryQueue:
    return RetryQueue(limit, random=lambda: random)


def complete(queue: RetryQueue, now: float) -> None:
    queue.completions += 1
    queue.count_completions(now)


def test_the_first_refused_request_retries_soon() -> None:
    assert retry_queue().take_place(0.0) <= 2


def test_requests_refused_together_get_different_times() -> None:
    queue = retry_queue()
    answers = [queue.take_place(0.0) for _ in range(100)]
    assert answers == sorted(answers)
    assert len(set(answers)) >= 8


def test_the_queue_advances_with_time() -> None:
    queue = retry_queue()
    for _ in range(100):
        late = queue.take_place(0.0)
    assert queue.take_place(60.0) < late


def test_fast_completions_shorten_the_wait() -> None:
    slow, fast = retry_queue(), retry_queue()
    for completion in range(5000):
        complete(fast, completion / 1000)
    waits = [(slow.take_place(5.0), fast.take_place(5.0)) for _ in range(100)][-1]
    assert waits[0] > waits[1]


def test_the_rate_counts_recent_completions() -> None:
    queue = retry_queue(limit=30)
    for completion in range(10_000):
        complete(queue, completion / 100)
    assert 90 < queue.rate(100.0) < 110
    assert queue.rate(200.0) == 1.0


def test_pending_completions_count() -> None:
    slow, fast = retry_queue(limit=30), retry_queue(limit=30)
    fast.completions += 60
    assert [slow.take_place(0.0) for _ in range(20)][-1] > [fast.take_place(0.0) for _ in range(20)][-1]


@given(
    limit=st.integers(0, 20_000),
    random=st.floats(0, 1, exclude_max=True),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=200),
)
def test_every_retry_after_is_within_bounds(
    limit: int, random: float, steps: list[tuple[bool, float]]
) -> None:
    queue, now = retry_queue(limit, random), 0.0
    for is_completion, passed_s in steps:
        now += passed_s
        if is_completion:
            complete(queue, now)
        else:
            assert SHORTEST_S <= queue.take_place(now) <= LONGEST_S
