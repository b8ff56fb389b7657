"""How the module of a type says what its values are and how its operators, functions and casts are carried
out; and the errors of values.

Each such module has `TYPES`, its types by name, and `OPERATIONS`, by signature; `registry.py` collects them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

SPACE: Final = " \t\n\v\f\r"
"""What the input functions of most types skip around a value: C's `isspace()`."""

_SIGNS: Final = {"=": "==", "<>": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
"""Postgres's sign of a comparison → Python's."""


class RowError(Exception):
    """Evaluating the clause on this row raises an error in Postgres: overflow, division by zero, bad cast."""


class BadLiteral(ValueError):
    """Text that is no value of the type, or in a form that is not taken; `reason` replaces the usual
    message.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Modifier(NamedTuple):
    """What may stand in parentheses behind a type's name, and the conversion of values that it means."""

    is_valid: Callable[[tuple[int, ...]], bool]
    conversion: Callable[[tuple[int, ...]], Callable[[Any], Any]]
    """The conversion may raise RowError."""


class TypeIO(NamedTuple):
    """A type's conversions. `read` raises BadLiteral; `decode` is only given what the server wrote."""

    decode: Callable[[str], Any]
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    is_canonical: bool
    """Whether equal values have equal text, so that `=` can compare the text itself."""
    modifier: Modifier | None = None


class Operation(NamedTuple):
    """Either `template`, Python source with `{0}`, `{1}` for the operands, or `call`, a function of the
    operands.
    """

    template: str = ""
    call: Callable[..., Any] | None = None
    can_raise: bool = False
    """Whether it may raise RowError."""
    equality: str = ""
    """`eq` or `ne` when it is `=` or `<>` and equal values are one key of a dictionary."""
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


def raises(function: Callable[..., Any], *, collation: str = "") -> Operation:
    """An operation that is a function and may raise RowError."""
    return Operation(call=function, can_raise=True, collation=collation)


def reads(read: Callable[[str], Any]) -> Operation:
    """The cast of text to a type whose input function is `read`, which may raise BadLiteral."""

    def cast(text: str) -> Any:
        try:
            return read(text)
        except BadLiteral as bad:
            raise RowError(bad.reason or "invalid input syntax") from None

    return raises(cast)


def comparisons(
    left: str,
    right: str,
    *,
    operands: tuple[str, str] = ("{0}", "{1}"),
    is_keyed: bool = False,
    is_collated: bool = False,
    has_ordered_text: bool = False,
) -> dict[str, Operation]:
    """`=`, `<>`, `<`, `>`, `<=`, `>=` of two types by signature, as Python compares `operands`.

    `is_keyed` says that values are equal exactly when they are one key of a dictionary, `has_ordered_text`
    that texts in years of four digits have the order of the values.
    """
    made = {}
    for sign, ours in _SIGNS.items():
        equality = {"=": "eq", "<>": "ne"}.get(sign, "")
        made[f"{left} {sign} {right}"] = Operation(
            template=f"{operands[0]} {ours} {operands[1]}",
            equality=equality if is_keyed else "",
            ordered_text=ours if has_ordered_text and not equality else "",
            collation=("equal" if equality else "order") if is_collated else "",
        )
    return made
