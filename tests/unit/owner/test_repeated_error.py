"""What comes back three times at one position does not pass."""

from __future__ import annotations

import pytest

from pgshapes.errors import ConfigError, SourceError
from pgshapes.owner.repeated_error import LASTING_FROM, RepeatedError

LSN = 0x1500000


def huge() -> SourceError:
    return SourceError("invalid memory alloc request size 1080000003", sqlstate="XX000")


def test_the_same_error_at_the_same_position_is_lasting() -> None:
    repeated = RepeatedError()
    assert [repeated.note(huge(), LSN) for _ in range(5)] == [False, False, True, True, True]


def test_progress_in_between_begins_anew() -> None:
    repeated = RepeatedError()
    assert not any(repeated.note(huge(), LSN + number) for number in range(2 * LASTING_FROM))


def test_another_error_in_between_begins_anew() -> None:
    repeated = RepeatedError()
    errors = [huge(), huge(), SourceError("the connection was lost"), huge(), huge()]
    assert not any(repeated.note(error, LSN) for error in errors)


@pytest.mark.parametrize(
    "error",
    [
        SourceError("the connection was lost"),
        SourceError("terminating connection due to administrator command", sqlstate="57P01"),
        SourceError("sorry, too many clients already", sqlstate="53300"),
        SourceError("replication slot is active", sqlstate="55006"),
        ConfigError("the settings are wrong"),
    ],
    ids=lambda error: error.message,
)
def test_what_may_pass_is_never_lasting(error: Exception) -> None:
    repeated = RepeatedError()
    assert not any(repeated.note(error, LSN) for _ in range(10))


def test_before_the_shapes_are_loaded_there_is_no_position() -> None:
    repeated = RepeatedError()
    assert not any(repeated.note(huge(), None) for _ in range(10))
