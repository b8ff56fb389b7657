"""The view of `pgshapes tail` on a terminal: a table of the rows, the last changed first.

The view has its own copy of the rows.
"""

from __future__ import annotations

from typing import Final

from rich.table import Table
from rich.text import Text

from pgshapes.client import Batch, ChangeMessage, Position, apply_change
from pgshapes.client.messages import MUST_REFETCH, Value
from pgshapes.model.change import Operation

# Title, header, borders, caption and the line of the prompt.
_LINES_AROUND_ROWS: Final = 7
_DEFAULT_HEIGHT: Final = 25
_LONGEST_CELL: Final = 60

_MARKS: Final = {
    Operation.INSERT: Text("+", style="green"),
    Operation.UPDATE: Text("~", style="yellow"),
}


class TailView:
    """The rows of a shape, and which of them the last batch changed."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._rows: dict[str, Value] = {}
        self._last: dict[str, Operation] = {}
        self._position = Position()
        self._is_up_to_date = False
        self._changes = 0

    def take(self, batch: Batch) -> None:
        """Apply the messages of one response."""
        self._position, self._is_up_to_date = batch.position, batch.is_up_to_date
        self._last.clear()
        for message in batch.messages:
            if isinstance(message, ChangeMessage):
                self._apply(message)
            elif message.control == MUST_REFETCH:
                self._rows.clear()

    def _apply(self, change: ChangeMessage) -> None:
        apply_change(self._rows, change)
        self._changes += 1
        if change.key in self._rows:
            # Changed rows move to the end of the dict, which is shown first.
            self._rows[change.key] = self._rows.pop(change.key)
            self._last[change.key] = change.operation

    def render(self, height: int = _DEFAULT_HEIGHT) -> Table:
        """The table, with as many rows as fit into `height` lines."""
        shown = list(self._rows.items())[::-1][: max(1, height - _LINES_AROUND_ROWS)]
        names = list(dict.fromkeys(name for _, row in shown for name in row))
        table = Table(title=self._title(), caption=self._caption(len(shown)), expand=True)
        table.add_column("", width=1)
        for name in names:
            table.add_column(name, overflow="ellipsis", no_wrap=True)
        for key, row in shown:
            mark = _MARKS.get(self._last[key], Text(" ")) if key in self._last else Text(" ")
            table.add_row(mark, *(_cell(row.get(name)) for name in names))
        return table

    def _title(self) -> str:
        state = "up to date" if self._is_up_to_date else "catching up"
        return f"{self._table}: {len(self._rows)} rows, {state}"

    def _caption(self, shown: int) -> str:
        hidden = len(self._rows) - shown
        more = f"{hidden} more rows · " if hidden > 0 else ""
        return f"{more}{self._changes} changes · offset {self._position.offset} · press Ctrl-C to exit"


def _cell(value: object) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    return Text(str(value)[:_LONGEST_CELL])
