"""How one operator, function or cast of Postgres is carried out in Python, and the errors of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class RowError(Exception):
    """Evaluating the clause on this row raises an error in Postgres: overflow, division by zero, bad cast."""


class BadLiteral(ValueError):
    """Text that is no value of the type, or in a form that is not taken; `reason` replaces the usual
    message.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Operation(NamedTuple):
    """Either `template`, Python source with `{0}`, `{1}` for the operands, or `call`, a function of the
    operands.
    """

    template: str = ""
    call: Callable[..., Any] | None = None
    can_raise: bool = False
    """Whether it may raise RowError."""
    equality: str = ""
    """`eq` or `ne` when it is `=` or `<>` of a type whose equal values have equal text."""
    ordered_text: str = ""
    """The sign, when the operation orders values whose text, in years of four digits, has the same order."""
    collation: str = ""
    """What it needs of the collation: `equal` determinism, `order` byte order, `case` known folding."""
    older: tuple[int, Operation] | None = None
    """What older servers do: the first `server_version_num` that does as this one, and the operation."""

    def before(self, version: int, operation: Operation) -> Operation:
        """This operation, with another for servers before `version` (`server_version_num`)."""
        return self._replace(older=(version, operation))

    def for_server(self, version: int) -> Operation:
        """What a server of `version` does (`server_version_num`, 0 for the newest)."""
        return self.older[1] if self.older is not None and 0 < version < self.older[0] else self


def inline(template: str, *, collation: str = "", equality: str = "") -> Operation:
    """An operation that cannot raise, as source."""
    return Operation(template=template, collation=collation, equality=equality)


def calls(function: Callable[..., Any], *, collation: str = "") -> Operation:
    """An operation that is a function and cannot raise."""
    return Operation(call=function, collation=collation)


def raises(function: Callable[..., Any]) -> Operation:
    """An operation that is a function and may raise RowError."""
    return Operation(call=function, can_raise=True)
