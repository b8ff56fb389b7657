"""A one-off query on a part of a shape."""

from __future__ import annotations

from typing import NamedTuple


class Subset(NamedTuple):
    """A requested subset, after the checks that need no database; `where` and `order_by` are unchecked."""

    where: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    """(key, value) of the values for `$key` in `where`, sorted by key; keys are checked when the clause is.
    """
    order_by: str | None = None
    limit: int | None = None
    offset: int | None = None
