"""The messages of a shape, and the batch of messages in one response.

Not here: parsing column values (`values.py`). Pure; everything is immutable except the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from pgshapes.errors import WireError
from pgshapes.model.change import Operation

Value = dict[str, Any]
ParseValue = Callable[[Value], Value]

UP_TO_DATE: Final = "up-to-date"
MUST_REFETCH: Final = "must-refetch"


class ChangeMessage(NamedTuple):
    """One row change, in the order in which Postgres committed it."""

    operation: Operation
    key: str
    """Identifies the row; opaque, the same in snapshot and log."""
    value: Value
    """For an update: the key columns and the changed ones, or all columns with `replica=full`."""
    old_value: Value | None
    """With `replica=full`: the changed columns before an update."""
    headers: dict[str, Any]


class ControlMessage(NamedTuple):
    """Information about the log: `up-to-date`, `snapshot-end`, `must-refetch`, or an event."""

    control: str
    headers: dict[str, Any]


Message = ChangeMessage | ControlMessage


class Position(NamedTuple):
    """The position of a stream, from which a new stream can continue."""

    handle: str | None = None
    offset: str = "-1"


class Batch(NamedTuple):
    """The messages of one response; `position` is the position after the last of them."""

    messages: list[Message]
    position: Position
    is_up_to_date: bool


REFETCH_MESSAGE: Final = ControlMessage(MUST_REFETCH, {"control": MUST_REFETCH})


def decode_messages(body: bytes, parse_value: ParseValue | None) -> list[Message]:
    """The messages of a body, which is a JSON array or empty. Raises WireError."""
    if not body:
        return []
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WireError(f"the response is not JSON: {error}") from None
    if not isinstance(items, list):
        raise WireError("the response is not a JSON array")
    return [_message(item, parse_value) for item in items]


def _message(item: Any, parse_value: ParseValue | None) -> Message:
    try:
        headers = item["headers"]
        if "operation" not in headers:
            return ControlMessage(headers.get("control") or headers["event"], headers)
        value, old_value = item["value"], item.get("old_value")
        if parse_value is not None:
            value = parse_value(value)
            old_value = old_value and parse_value(old_value)
        return ChangeMessage(Operation(headers["operation"]), item["key"], value, old_value, headers)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"the response contains an invalid message: {item!r}") from error
