"""The protocol between callers and owner for one definition, as a state machine without clock or loop.

Two processes and one owner; links deliver in order, each message a step of its own. The decisions
are those of the program's own `creation_protocol`; the model adds what surrounds them: messages under way,
replicas that lag, an owner that may be killed. Callers of one process are alike, and joining others changes
no decision, so a process either has waiting callers or has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pgshapes.tables.creation_protocol import (
    MAX_ATTEMPTS,
    CallStep,
    FlightStep,
    is_poll_over,
    next_call_step,
    next_flight_step,
)
from pgshapes.tables.rows import CreationLock, CreationState

PROCESSES = (0, 1)

# Plain strings where the program has enumerations: millions of states are hashed.
Phase = Literal["starting", "asking", "polling", "away"]
Link = Literal["up", "syncing", "down"]
Lock = Literal["in progress", "failed"] | None

ROWS: dict[Lock, CreationLock | None] = {
    None: None,
    "in progress": CreationLock(CreationState.IN_PROGRESS, 1),
    "failed": CreationLock(CreationState.FAILED, 1),
}


class Violation(AssertionError):
    """A state that must never be reached."""


class Flight(NamedTuple):
    """A flight of one process."""

    phase: Phase = "starting"
    attempts_left: int = MAX_ATTEMPTS
    has_seen_failure: bool = False
    epoch: int = 0
    call: int = 0
    """Number of the call that it waits for."""


class Creation(NamedTuple):
    """The owner's creation; `callers` are the calls that wait for it, by process and number."""

    has_begun: bool = False
    is_activated: bool = False
    callers: frozenset[tuple[int, int]] = frozenset()


class Replica(NamedTuple):
    """The tables in a caller's process."""

    epoch: int = 0
    lock: Lock = None
    has_shape: bool = False


class Process(NamedTuple):
    """A caller's process: messages to the owner and from it are in order."""

    replica: Replica = Replica()
    link: Link = "up"
    flight: Flight | None = None
    """There is one while callers wait."""
    to_owner: tuple[tuple[str, int], ...] = ()
    from_owner: tuple[tuple[str, object], ...] = ()


class Budget(NamedTuple):
    """How many external events may still happen."""

    arrivals: int = 0
    crashes: int = 0
    cuts: int = 0
    failures: int = 0
    removals: int = 0


class State(NamedTuple):
    """The state of all processes and links."""

    processes: tuple[Process, ...] = (Process(), Process())
    epoch: int = 0
    lock: Lock = None
    has_shape: bool = False
    creation: Creation | None = None
    budget: Budget = Budget()


Steps = Iterator[tuple[str, State]]


class Model:
    """The steps that are possible; `has_notices`: whether processes see rows that are removed again at
    once.
    """

    def __init__(self, *, has_notices: bool = True) -> None:
        self._has_notices = has_notices

    # --- steps of the program

    def own_steps(self, state: State) -> Steps:
        """Steps that happen without an external event."""
        for number in PROCESSES:
            process = state.processes[number]
            if process.to_owner:
                yield f"owner reads {process.to_owner[0]} of {number}", self._receive(state, number)
            if process.from_owner:
                yield f"{number} reads {process.from_owner[0]}", self._read(state, number)
            if process.link == "down":
                yield f"{number} connects", self._connect(state, number)
            if process.flight is not None:
                yield from self._flight_steps(state, number, process, process.flight)
        yield from self._create(state)
        if state.lock == "failed":
            yield "sweep", self._set_lock(state, None)

    def _receive(self, state: State, number: int) -> State:
        process = state.processes[number]
        (verb, call), rest = process.to_owner[0], process.to_owner[1:]
        state = _with(state, number, process._replace(to_owner=rest))
        return self._call(state, (number, call)) if verb == "call" else self._cancel(state, (number, call))

    def _call(self, state: State, caller: tuple[int, int]) -> State:
        step = next_call_step(
            is_activated=state.has_shape,
            is_running=state.creation is not None,
            lock=ROWS[state.lock],
        )
        if step is CallStep.ANSWER:
            return _reply(state, caller, True)
        if step is CallStep.REFUSE:
            return _reply(state, caller, False)
        if step is CallStep.CLAIM:
            if state.lock is not None:
                raise Violation("a claim over a lock")
            state = self._set_lock(state._replace(creation=Creation()), "in progress")
        assert state.creation is not None
        callers = state.creation.callers | {caller}
        if len({number for number, _ in callers}) < len(callers):
            raise Violation("two calls of one process at once")
        return state._replace(creation=state.creation._replace(callers=callers))

    def _cancel(self, state: State, caller: tuple[int, int]) -> State:
        creation = state.creation
        if creation is None or caller not in creation.callers:
            return state
        creation = creation._replace(callers=creation.callers - {caller})
        if creation.callers or creation.has_begun:
            return state._replace(creation=creation)
        return self._set_lock(state._replace(creation=None), None)

    def _create(self, state: State) -> Steps:
        creation = state.creation
        if creation is None:
            return
        if not creation.has_begun:
            yield "begin", state._replace(creation=creation._replace(has_begun=True))
        elif not creation.is_activated:
            yield "activate", self._activate(state, creation)
        else:
            yield "end", self._end(state, creation, has_succeeded=True)

    def _activate(self, state: State, creation: Creation) -> State:
        if state.has_shape:
            raise Violation("two live handles of one definition")
        state = state._replace(creation=creation._replace(is_activated=True))
        return self._set_shape(state, True)

    def _end(self, state: State, creation: Creation, *, has_succeeded: bool) -> State:
        state = state._replace(creation=None)
        state = self._set_lock(state, None if has_succeeded else "failed")
        for caller in sorted(creation.callers):
            state = _reply(state, caller, has_succeeded)
        return state

    def _set_lock(self, state: State, lock: Lock) -> State:
        return _tell(state._replace(lock=lock), ("lock", lock))

    def _set_shape(self, state: State, has_shape: bool) -> State:
        return _tell(state._replace(has_shape=has_shape), ("has_shape", has_shape))

    def _connect(self, state: State, number: int) -> State:
        process = state.processes[number]
        now = Replica(state.epoch, state.lock, state.has_shape)
        process = process._replace(link="syncing", from_owner=(("state", now),))
        return _with(state, number, process)

    # --- a caller's process

    def _read(self, state: State, number: int) -> State:
        process = state.processes[number]
        (kind, value), rest = process.from_owner[0], process.from_owner[1:]
        process = process._replace(from_owner=rest)
        if kind == "reply":
            return _with(state, number, self._answered(process, value))
        if kind == "state":
            assert isinstance(value, Replica)
            process = process._replace(replica=value, link="up")
            return _with(state, number, self._after_lock_change(process, value.lock))
        changed: dict[str, Any] = {kind: value}
        process = process._replace(replica=process.replica._replace(**changed))
        if kind == "lock":
            process = self._after_lock_change(process, process.replica.lock)
        return _with(state, number, process)

    def _after_lock_change(self, process: Process, lock: Lock) -> Process:
        flight = process.flight
        if flight is None or not self._has_notices or lock != "failed":
            return process
        return process._replace(flight=flight._replace(has_seen_failure=True))

    def _answered(self, process: Process, reply: object) -> Process:
        assert isinstance(reply, tuple)
        (call, has_succeeded), flight = reply, process.flight
        if flight is None or flight.phase != "asking" or flight.call != call:
            return process
        return _next_attempt(process, flight) if has_succeeded else _without_flight(process)

    def _flight_steps(self, state: State, number: int, process: Process, flight: Flight) -> Steps:
        replica = process.replica
        if flight.phase == "starting":
            yield from self._decide(state, number, process, flight)
        elif flight.phase == "away" and process.link == "up":
            yield f"{number} reconnects", _with(state, number, _next_attempt(process, flight))
        elif flight.phase == "polling" and is_poll_over(
            has_seen_failure=flight.has_seen_failure,
            lock=ROWS[replica.lock],
            is_same_epoch=replica.epoch == flight.epoch,
        ):
            yield f"{number} polls", _with(state, number, _next_attempt(process, flight))

    def _decide(self, state: State, number: int, process: Process, flight: Flight) -> Steps:
        replica = process.replica
        step = next_flight_step(
            is_ready=replica.has_shape,
            has_seen_failure=flight.has_seen_failure,
            lock=ROWS[replica.lock],
            attempts_left=flight.attempts_left,
        )
        if step is FlightStep.ASK:
            if process.link == "syncing":
                return
            if process.link == "down":
                process = process._replace(flight=flight._replace(phase="away"))
            else:
                call = _unused_number(state, number)
                asking = flight._replace(phase="asking", call=call)
                sent = (*process.to_owner, ("call", call))
                process = process._replace(flight=asking, to_owner=sent)
        elif step is FlightStep.POLL:
            polling = flight._replace(phase="polling", epoch=replica.epoch)
            process = process._replace(flight=polling)
        else:
            process = _without_flight(process)
        yield f"{number}: {step.value}", _with(state, number, process)

    # --- external events

    def outside_steps(self, state: State) -> Steps:
        """Steps that may happen or not."""
        budget = state.budget
        for number in PROCESSES:
            process = state.processes[number]
            if budget.arrivals and process.flight is None:
                spent = state._replace(budget=budget._replace(arrivals=budget.arrivals - 1))
                yield f"arrival at {number}", self._arrive(spent, number)
            if process.flight is not None:
                yield f"all leave {number}", self._leave(state, number)
            if budget.cuts and process.link == "up":
                spent = state._replace(budget=budget._replace(cuts=budget.cuts - 1))
                yield f"cut {number}", self._cut(spent, number)
        if budget.crashes:
            spent = state._replace(budget=budget._replace(crashes=budget.crashes - 1))
            yield "crash", self._crash(spent, keeps_shape=True)
            if state.has_shape:
                yield "crash that loses the shape", self._crash(spent, keeps_shape=False)
        if budget.removals and state.has_shape:
            spent = state._replace(budget=budget._replace(removals=budget.removals - 1))
            yield "removal", self._set_shape(spent, False)
        creation = state.creation
        if budget.failures and creation is not None and creation.has_begun and not creation.is_activated:
            spent = state._replace(budget=budget._replace(failures=budget.failures - 1))
            yield "failure", self._end(spent, creation, has_succeeded=False)

    def _arrive(self, state: State, number: int) -> State:
        process = state.processes[number]
        if process.replica.has_shape or process.replica.lock == "failed":
            return state
        return _with(state, number, process._replace(flight=Flight()))

    def _leave(self, state: State, number: int) -> State:
        process = state.processes[number]
        assert process.flight is not None
        if process.flight.phase == "asking":
            cancelled = ("cancel", process.flight.call)
            process = process._replace(to_owner=(*process.to_owner, cancelled))
        return _with(state, number, process._replace(flight=None))

    def _cut(self, state: State, number: int) -> State:
        callers = () if state.creation is None else state.creation.callers
        for caller in callers:
            if caller[0] == number:
                state = self._cancel(state, caller)
        return _with(state, number, _disconnected(state.processes[number]))

    def _crash(self, state: State, *, keeps_shape: bool) -> State:
        return state._replace(
            processes=tuple(map(_disconnected, state.processes)),
            epoch=state.epoch + 1,
            lock=None,
            creation=None,
            has_shape=state.has_shape and keeps_shape,
        )


def check(state: State) -> None:
    """What holds in every state. Raises Violation."""
    is_set = state.lock == "in progress"
    if is_set != (state.creation is not None):
        raise Violation("a lock without its handler, or a handler without its lock")


def one_of_two(state: State) -> State:
    """The same for a state and for that in which the processes have changed their names."""
    one, other = state.processes
    if hash(one) <= hash(other):
        return state
    creation = state.creation
    if creation is not None:
        callers = frozenset((1 - number, call) for number, call in creation.callers)
        creation = creation._replace(callers=callers)
    return state._replace(processes=(other, one), creation=creation)


def _with(state: State, number: int, process: Process) -> State:
    processes = list(state.processes)
    processes[number] = process
    return state._replace(processes=tuple(processes))


def _send(state: State, number: int, message: tuple[str, object]) -> State:
    process = state.processes[number]
    if process.link == "down":
        return state
    return _with(state, number, process._replace(from_owner=(*process.from_owner, message)))


def _reply(state: State, caller: tuple[int, int], has_succeeded: bool) -> State:
    number, call = caller
    return _send(state, number, ("reply", (call, has_succeeded)))


def _unused_number(state: State, number: int) -> int:
    """For a call of this process: none that is still on its way or being answered."""
    process = state.processes[number]
    used = {call for _, call in process.to_owner}
    used |= {value[0] for kind, value in process.from_owner if kind == "reply" and isinstance(value, tuple)}
    if state.creation is not None:
        used |= {call for caller, call in state.creation.callers if caller == number}
    return next(call for call in range(len(used) + 1) if call not in used)


def _tell(state: State, message: tuple[str, object]) -> State:
    for number in PROCESSES:
        state = _send(state, number, message)
    return state


def _next_attempt(process: Process, flight: Flight) -> Process:
    again = flight._replace(phase="starting", attempts_left=flight.attempts_left - 1)
    return process._replace(flight=again)


def _without_flight(process: Process) -> Process:
    return process._replace(flight=None)


def _disconnected(process: Process) -> Process:
    flight = process.flight
    if flight is not None and flight.phase == "asking":
        flight = flight._replace(phase="away")
    return process._replace(link="down", to_owner=(), from_owner=(), flight=flight)
