from __future__ import annotations

import random

from pgshapes.shape_log.file_store.open_logs import OpenLogs, default_max_files


class FakeLog:
    def __init__(self) -> None:
        self.open_index = -1
        self.closed = 0

    def close_files(self) -> None:
        self.closed += 1


def test_the_number_of_open_logs_is_bounded() -> None:
    open_logs = OpenLogs(10)
    logs = [FakeLog() for _ in range(40)]
    for _ in range(50):
        for log in logs:
            if log.open_index < 0:
                open_logs.admit(log)
            assert len(open_logs) <= 5
            assert sum(log.open_index >= 0 for log in logs) == len(open_logs)
    assert sorted(log.open_index for log in logs if log.open_index >= 0) == list(range(5))


def test_appending_to_more_logs_than_fit_keeps_most_open() -> None:
    random.seed(1)
    open_logs = OpenLogs(1000)
    logs = [FakeLog() for _ in range(1000)]
    hits = 0
    for _ in range(5):
        for log in logs:
            hits += log.open_index >= 0
            if log.open_index < 0:
                open_logs.admit(log)
    assert hits > 4 * 500 * 0.8


def test_a_busy_log_is_admitted() -> None:
    open_logs = OpenLogs(2)
    first, second = FakeLog(), FakeLog()
    assert open_logs.admit(first)
    assert any(open_logs.admit(second) for _ in range(10_000))
    assert first.closed == 1
    assert (first.open_index, second.open_index) == (-1, 0)


def test_releasing_and_closing() -> None:
    open_logs = OpenLogs(20)
    logs = [FakeLog() for _ in range(5)]
    for log in logs:
        open_logs.admit(log)
    open_logs.release(logs[1])
    open_logs.release(logs[1])
    assert [log.closed for log in logs] == [0, 1, 0, 0, 0]
    assert open_logs.make_room()
    assert len(open_logs) == 2
    for log in logs:
        open_logs.release(log)
    assert [log.closed for log in logs] == [1] * 5
    assert not open_logs.make_room()


def test_half_of_the_descriptors_are_left_to_others() -> None:
    assert default_max_files() >= 1
