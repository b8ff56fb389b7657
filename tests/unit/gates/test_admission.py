"""When the refused should come back, in a time of the tests' own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgshapes.gates.admission import LONGEST_S, SHORTEST_S, RetryQueue


def line(limit: int = 300, random: float = 0.5) -> RetryQueue:
    return RetryQueue(limit, random=lambda: random)


def complete(queue: RetryQueue, now: float) -> None:
    queue.completions += 1
    queue.count_completions(now)


def test_the_first_refused_comes_back_soon() -> None:
    assert line().take_place(0.0) <= 2


def test_those_refused_together_are_spread() -> None:
    crowd = line()
    answers = [crowd.take_place(0.0) for _ in range(100)]
    assert answers == sorted(answers)
    assert len(set(answers)) >= 8


def test_the_line_moves_while_time_passes() -> None:
    crowd = line()
    for _ in range(100):
        late = crowd.take_place(0.0)
    assert crowd.take_place(60.0) < late


def test_a_house_that_empties_fast_asks_for_less() -> None:
    slow, fast = line(), line()
    for completion in range(5000):
        complete(fast, completion / 1000)
    waits = [(slow.take_place(5.0), fast.take_place(5.0)) for _ in range(100)][-1]
    assert waits[0] > waits[1]


def test_the_rate_is_that_of_late_completions() -> None:
    queue = line(limit=30)
    for completion in range(10_000):
        complete(queue, completion / 100)
    assert 90 < queue.rate(100.0) < 110
    assert queue.rate(200.0) == 1.0


def test_completions_count_though_they_were_not_weighed_yet() -> None:
    slow, fast = line(limit=30), line(limit=30)
    fast.completions += 60
    assert [slow.take_place(0.0) for _ in range(20)][-1] > [fast.take_place(0.0) for _ in range(20)][-1]


@given(
    limit=st.integers(0, 20_000),
    random=st.floats(0, 1, exclude_max=True),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=200),
)
def test_every_answer_is_a_positive_number_of_seconds_within_bounds(
    limit: int, random: float, steps: list[tuple[bool, float]]
) -> None:
    queue, now = line(limit, random), 0.0
    for is_completion, passed_s in steps:
        now += passed_s
        if is_completion:
            complete(queue, now)
        else:
            assert SHORTEST_S <= queue.take_place(now) <= LONGEST_S
