"""The declarations in the module of a type: how its values are converted, and what its operators, functions
and casts do; and the errors of values.

Each such module has `TYPES`, its types by name, and `OPERATIONS`, by signature: `text || text`, `- int4`,
`lower(text)`, `int4::numeric`. `registry.py` collects them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pgshapes.where.collation import Collation

SPACE: Final = " \t\n\v\f\r"
"""The blanks that the input functions of most types skip before and after a value: C's `isspace()`."""

_SIGNS: Final = {"=": "==", "<>": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
"""The comparison operators of Postgres, and Python's for them."""


class RowError(Exception):
    """Postgres raises an error for this row: overflow, division by zero, invalid text for a cast."""


class TooExpensive(Exception):
    """A value cannot be computed in reasonable time. Postgres would compute it, so the row must not count as
    one that does not match.

    Clients read `reason`, so it has no values of rows: sizes and times only.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadLiteral(ValueError):
    """Text that is not a value of the type, or in a form that is not accepted. `reason` replaces the usual
    message.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


CaseMapping = Callable[[str], str]
"""lower() or upper()."""
CaseMappingOf = Callable[[Collation, int], CaseMapping | None]
"""The mapping of a collation on a server of a version, None if it is not known."""


class Modifier(NamedTuple):
    """The parameters in parentheses after a type's name, and the conversion of values that they mean."""

    is_valid: Callable[[tuple[int, ...]], bool]
    conversion: Callable[[tuple[int, ...]], Callable[[Any], Any]]
    """The conversion may raise RowError."""


class TypeIO(NamedTuple):
    """The conversions of a type: `decode` from the server's text, `read` from a client's, `write` to the
    server's form. `read` raises BadLiteral.
    """

    decode: Callable[[str], Any]
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    is_canonical: bool
    """Whether equal values have equal text, so that `=` can compare the text itself."""
    modifier: Modifier | None = None


class Operation(NamedTuple):
    """What an operator, function or cast does: `template`, Python source with `{0}`, `{1}` for the operands,
    or `call`, a function of the operands.
    """

    template: str = ""
    call: Callable[..., Any] | None = None
    can_raise: bool = False
    """Whether it may raise RowError."""
    equality: str = ""
    """`eq` or `ne` when it is `=` or `<>` and equal values are one key of a dictionary."""
    ordered_text: str = ""
    """Python's operator, if it is a comparison of values whose texts have the same order in years 0001 to
    9999.
    """
    collation: str = ""
    """What it needs of the collation: `equal` that it is deterministic, `order` the order of bytes, `case`
    known case rules.
    """
    case_mapping: CaseMappingOf | None = None
    """What is applied to the operands before it, or instead of it if it is a function of one operand."""
    older: tuple[int, Operation] | None = None
    """What servers do that are older than a `server_version_num`, if that is something else."""

    def before(self, version: int, operation: Operation) -> Operation:
        """This operation, with another one for servers older than `version` (`server_version_num`)."""
        return self._replace(older=(version, operation))

    def for_server(self, version: int) -> Operation:
        """The operation on a server of `version` (`server_version_num`, 0 for the newest)."""
        return self.older[1] if self.older is not None and 0 < version < self.older[0] else self


def inline(template: str, *, collation: str = "", equality: str = "") -> Operation:
    """An operation that does not raise, as source."""
    return Operation(template=template, collation=collation, equality=equality)


def calls(
    function: Callable[..., Any], *, collation: str = "", case_mapping: CaseMappingOf | None = None
) -> Operation:
    """An operation that is a function and does not raise."""
    need = collation if case_mapping is None else "case"
    return Operation(call=function, collation=need, case_mapping=case_mapping)


def raises(
    function: Callable[..., Any], *, collation: str = "", case_mapping: CaseMappingOf | None = None
) -> Operation:
    """An operation that is a function and may raise RowError."""
    return calls(function, collation=collation, case_mapping=case_mapping)._replace(can_raise=True)


def reads(read: Callable[[str], Any]) -> Operation:
    """The cast of text by `read`, which may raise BadLiteral."""

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
    """The comparisons of two types by signature, as Python compares `operands`.

    `is_keyed`: values are equal exactly when they are the same key in a dictionary. `has_ordered_text`:
    texts of values in years 0001 to 9999 have the order of the values.
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
