"""Which rows a client asks for, as query parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pgshapes.model.quoting import quote_identifier


@dataclass(frozen=True)
class Query:
    """A shape as a client defines it."""

    table: str
    """`name` or `schema.name`; a name with capitals or special characters goes in double quotes."""
    where: str | None = None
    params: Sequence[str] = ()
    """Values of `$1`, `$2`, … in the clause."""
    columns: Sequence[str] | None = None
    """Names as they are in Postgres, unquoted; the key columns must be among them."""
    replica: Literal["default", "full"] = "default"
    log: Literal["full", "changes_only"] = "full"
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further query parameters, `secret` for instance."""

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
