"""What the clients of the torture harness object to."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.torture.checked_copy import CheckedCopy, Misfit
from tests.support.torture.definitions import FUNDS, Watched

UP_TO_DATE: dict[str, Any] = {"headers": {"control": "up-to-date", "global_last_seen_lsn": "9"}}
PLAIN = Watched("items")
PARTLY = Watched("items", is_changes_only=True)


def change(operation: str, key: str, place: tuple[int, int] | None, last: bool = True, **value: str) -> Any:
    headers: dict[str, Any] = {"operation": operation}
    if place is not None:
        headers |= {"lsn": str(place[0]), "op_position": place[1]} | ({"last": True} if last else {})
    return {"key": key, "value": value, "headers": headers}


def copy_with_row(watched: Watched = PLAIN) -> CheckedCopy:
    copy = CheckedCopy(watched, 0.0)
    assert copy.answer("h", "0_0", [change("insert", "a", None, id="1")]) is False
    return copy


def test_rows_follow_the_messages() -> None:
    copy = copy_with_row()
    messages = [
        change("update", "a", (5, 0), last=False, n="2"),
        change("insert", "b", (5, 2), id="2"),
        change("delete", "a", (6, 0)),
        UP_TO_DATE,
    ]
    assert copy.answer("h", "6_0", messages) is True
    assert copy.rows == {"b": {"id": "2"}}
    assert copy.answer("h", "6_0", [UP_TO_DATE]) is True


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([change("insert", "a", (5, 0))], "inserted twice"),
        ([change("update", "c", (5, 0))], "not there"),
        ([change("delete", "c", (5, 0))], "not there"),
        ([change("insert", "c", (5, 2)), change("insert", "d", (5, 2))], "sent twice, or out of order"),
        ([change("insert", "c", (5, 2)), change("insert", "d", (4, 4))], "sent twice, or out of order"),
        ([change("insert", "c", (5, 0), last=False), UP_TO_DATE], "within the transaction"),
        ([change("insert", "c", (5, 0), last=False), change("insert", "d", (6, 0))], "its last message"),
        ([change("insert", "c", (9, 0))], "in an answer that ends at"),
    ],
)
def test_a_message_that_does_not_fit(messages: list[Any], reason: str) -> None:
    with pytest.raises(Misfit, match=reason):
        copy_with_row().answer("h", "8_0", messages)


def test_a_message_that_an_earlier_answer_had() -> None:
    copy = copy_with_row()
    copy.answer("h", "5_0", [change("insert", "b", (5, 0)), UP_TO_DATE])
    with pytest.raises(Misfit, match="sent twice"):
        copy.answer("h", "6_0", [change("delete", "b", (5, 0)), UP_TO_DATE])


def test_handles_and_offsets() -> None:
    copy = copy_with_row()
    with pytest.raises(Misfit, match="without a 409"):
        copy.answer("other", "0_inf", [UP_TO_DATE])
    copy = copy_with_row()
    copy.answer("h", "7_0", [UP_TO_DATE])
    with pytest.raises(Misfit, match="went back"):
        copy.answer("h", "6_0", [UP_TO_DATE])


def test_the_sum_is_looked_at_when_up_to_date() -> None:
    copy = CheckedCopy(Watched("accounts", total=FUNDS), 0.0)
    copy.take([change("insert", "a", None, balance=str(FUNDS))])
    copy.take([change("update", "a", (5, 0), last=False, balance=str(FUNDS - 1))])
    copy.take([change("insert", "b", (5, 2), balance="1"), UP_TO_DATE])
    copy.take([change("update", "a", (6, 0), balance=str(FUNDS))])
    with pytest.raises(Misfit, match=f"sum up to {FUNDS + 1}"):
        copy.take([UP_TO_DATE])


def test_changes_only_knows_no_earlier_rows() -> None:
    copy = CheckedCopy(PARTLY, 0.0)
    copy.take([change("update", "a", (5, 0), id="1", n="2"), change("delete", "b", (6, 0)), UP_TO_DATE])
    assert copy.rows == {"a": {"id": "1", "n": "2"}}
    with pytest.raises(Misfit, match="inserted twice"):
        copy.take([change("insert", "a", (7, 0))])
    with pytest.raises(Misfit, match="deleted before"):
        copy.take([change("update", "b", (8, 0))])
