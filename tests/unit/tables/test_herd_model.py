"""Two processes, their callers, and external events: every interleaving of few events, and random
ones of many.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.tables.herd_model import Budget, Model, Process, State, Violation, check, one_of_two

Graph = dict[State, list[State]]
"""State → the states that the program reaches from it by itself, in one step."""


def explore(model: Model, start: State) -> Graph:
    """All states that can be reached. Raises Violation."""
    own: Graph = {}
    waiting = [start]
    while waiting:
        state = waiting.pop()
        if state in own:
            continue
        check(state)
        own[state] = [one_of_two(after) for _, after in model.own_steps(state)]
        waiting += own[state]
        waiting += (one_of_two(after) for _, after in model.outside_steps(state))
    return own


def check_rest(state: State) -> None:
    """Check a state without further steps: no caller waits, no lock is seen."""
    for process in state.processes:
        assert process.flight is None, f"a caller waits indefinitely: {state}"
        assert process.replica.lock is None
        assert process.replica.has_shape == state.has_shape
    assert state.creation is None and state.lock is None


def check_it_comes_to_rest(own: Graph) -> None:
    """Check that the program's own steps have no cycle: removing states without steps repeatedly removes
    all.
    """
    remaining = {state: len(after) for state, after in own.items()}
    before: Graph = defaultdict(list)
    for state, after in own.items():
        for each in after:
            before[each].append(state)
    resting = [state for state, count in remaining.items() if not count]
    while resting:
        for each in before[resting.pop()]:
            remaining[each] -= 1
            if not remaining[each]:
                resting.append(each)
    assert not any(remaining.values()), "the program's steps have a cycle"


@pytest.mark.parametrize(
    ("budget", "has_notices"),
    [
        pytest.param(Budget(arrivals=2, failures=1), True, id="failure"),
        pytest.param(Budget(arrivals=2, failures=1), False, id="failure-unnoticed"),
        pytest.param(Budget(arrivals=2, removals=1), True, id="removal"),
        pytest.param(Budget(arrivals=2, crashes=1), True, id="crash"),
        pytest.param(Budget(arrivals=2, cuts=1), True, id="cut"),
    ],
)
def test_every_interleaving_ends_without_waiters(budget: Budget, has_notices: bool) -> None:
    own = explore(Model(has_notices=has_notices), State(budget=budget))
    for state, after in own.items():
        if not after:
            check_rest(state)
    check_it_comes_to_rest(own)
    assert len(own) > 1000


MANY = Budget(arrivals=6, crashes=2, cuts=2, failures=2, removals=2)


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), has_notices=st.booleans(), length=st.integers(1, 120))
def test_random_interleavings_of_many_events(seed: int, has_notices: bool, length: int) -> None:
    """Three callers of each process, two of each event; then no further event happens."""
    chance, model, state = random.Random(seed), Model(has_notices=has_notices), State(budget=MANY)
    for _ in range(length):
        steps = [*model.own_steps(state), *model.outside_steps(state)]
        if not steps:
            break
        state = chance.choice(steps)[1]
        check(state)
    while steps := list(model.own_steps(state)):
        state = chance.choice(steps)[1]
        check(state)
    check_rest(state)


def test_the_model_finds_a_violation() -> None:
    """An owner that does not check whether a creation is running."""

    class Careless(Model):
        def _call(self, state: State, caller: tuple[int, int]) -> State:
            return super()._call(state._replace(creation=None), caller)

    with pytest.raises(Violation):
        explore(Careless(), State(budget=Budget(arrivals=2)))


def test_the_model_finds_a_caller_that_waits_indefinitely() -> None:
    """A process that does not receive the answers to its calls."""

    class Deaf(Model):
        def _answered(self, process: Process, reply: object) -> Process:
            return process

    own = explore(Deaf(), State(budget=Budget(arrivals=1)))
    with pytest.raises(AssertionError, match="waits indefinitely"):
        for state, after in own.items():
            if not after:
                check_rest(state)
