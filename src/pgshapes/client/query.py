"""A shape definition as query parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pgshapes.model.quoting import quote_identifier


@dataclass(frozen=True)
class Query:
    """A shape definition."""

    table: str
    """`name` or `schema.name`; names with capitals or special characters must be in double quotes."""
    where: str | None = None
    params: Sequence[str] = ()
    """Values of `$1`, `$2`, … in the WHERE clause."""
    columns: Sequence[str] | None = None
    """Unquoted names; must include the key columns."""
    replica: Literal["default", "full"] = "default"
    log: Literal["full", "changes_only"] = "full"
    extra: Mapping[str, str] = field(default_factory=dict)
    """Additional query parameters, for example `secret`."""

    def parameters(self) -> dict[str, str]:
        """The query parameters of every request for this shape."""
        parameters = {**self.extra, "table": self.table, "log": self.log}
        if self.where is not None:
            parameters["where"] = self.where
        for number, value in enumerate(self.params, start=1):
            parameters[f"params[{number}]"] = value
        if self.columns is not None:
            parameters["columns"] = ",".join(quote_identifier(name) for name in self.columns)
        if self.replica != "default":
            parameters["replica"] = self.replica
        return parameters
