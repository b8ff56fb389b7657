"""The output of `pgshapes tail` to a pipe and on a terminal."""

from __future__ import annotations

import json

import httpx
import pytest
from rich.console import Console
from tests.unit.client.shape_server import ADDRESS, ShapeServer

from pgshapes.cli.tail import _print_lines
from pgshapes.cli.tail_view import TailView
from pgshapes.client import Batch, ChangeMessage, Position, ShapeStream, StreamOptions
from pgshapes.client.messages import REFETCH_MESSAGE
from pgshapes.model.change import Operation


async def test_a_line_of_json_for_each_message(capsys: pytest.CaptureFixture[str]) -> None:
    server = ShapeServer(rows=1)
    server.change("delete", 0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=server)) as http:
        await _print_lines(ShapeStream(ADDRESS, "items", http=http, options=StreamOptions(is_live=False)))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"operation": "insert", "key": '"public"."items"/"0"', "value": {"id": 0, "name": "name 0"}},
        {"control": "snapshot-end"},
        {"operation": "delete", "key": '"public"."items"/"0"', "value": {"id": 0}},
        {"control": "up-to-date"},
    ]


def change(operation: Operation, number: int, **value: str | None) -> ChangeMessage:
    return ChangeMessage(operation, f"k{number}", {"id": number, **value}, None, {})


def drawn(view: TailView, height: int = 25) -> str:
    console = Console(width=80, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(view.render(height))
    return captured.get()


def test_the_current_rows_are_shown() -> None:
    view = TailView("items")
    rows = [change(Operation.INSERT, number, name=f"name {number}", note=None) for number in range(3)]
    view.take(Batch([*rows], Position("h", "0_0"), is_up_to_date=False))
    assert "catching up" in drawn(view)
    updates = [change(Operation.UPDATE, 0, name="new"), change(Operation.DELETE, 1)]
    view.take(Batch([*updates], Position("h", "5_0"), is_up_to_date=True))
    text = drawn(view)
    assert "items: 2 rows, up to date" in text
    assert "offset 5_0" in text
    assert "NULL" in text
    assert "name 1" not in text
    assert text.index("~ ") < text.index("new") < text.index("name 2"), "what changed last is on top"


def test_the_rows_that_do_not_fit_are_counted() -> None:
    view = TailView("items")
    rows = [change(Operation.INSERT, number) for number in range(50)]
    view.take(Batch([*rows], Position("h", "0_0"), is_up_to_date=True))
    assert "40 more rows" in drawn(view, height=17)


def test_a_refetch_empties_the_view() -> None:
    view = TailView("items")
    view.take(Batch([change(Operation.INSERT, 1)], Position("h", "0_0"), is_up_to_date=True))
    view.take(Batch([REFETCH_MESSAGE], Position(), is_up_to_date=False))
    assert "items: 0 rows" in drawn(view)
