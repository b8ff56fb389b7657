"""`pgshapes tail TABLE`: shows a shape on a terminal, or writes its messages to a pipe.

On a terminal it shows the current rows, the last changed first; to a pipe it writes one line of JSON per
message.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pgshapes.client import Query, ShapeStream


@click.command()
@click.argument("table")
@click.option("--where", help="SQL condition that selects the rows.")
@click.option(
    "--param", "params", multiple=True, help="Value of $1, $2, … in the condition; one option for each."
)
@click.option("--columns", help="Comma-separated names of the columns to fetch.")
@click.option("--replica", type=click.Choice(["default", "full"]), default="default", show_default=True)
@click.option(
    "--url",
    envvar="PGSHAPES_URL",
    default="http://localhost:3000",
    show_default=True,
    help="Address of the server.",
)
@click.option("--secret", envvar=["PGSHAPES_SECRET", "ELECTRIC_SECRET"], help="Secret of the server.")
@click.option("--once", is_flag=True, help="Exit once the rows are up to date.")
@click.option("--lines", is_flag=True, help="Write lines of JSON on a terminal, too.")
def tail(
    table: str,
    *,
    where: str | None,
    params: tuple[str, ...],
    columns: str | None,
    replica: str,
    url: str,
    secret: str | None,
    once: bool,
    lines: bool,
) -> int:
    """Show the rows of TABLE and follow their changes."""
    from pgshapes.client import Query

    names = [name.strip().strip('"') for name in columns.split(",")] if columns else None
    extra = {"secret": secret} if secret else {}
    query = Query(table, where, params, names, "full" if replica == "full" else "default", extra=extra)
    try:
        asyncio.run(_tail(url, query, is_live=not once, as_lines=lines or not sys.stdout.isatty()))
    except KeyboardInterrupt:
        return 130
    return 0


async def _tail(url: str, query: Query, *, is_live: bool, as_lines: bool) -> None:
    from pgshapes.client import ShapeStream, StreamOptions

    options = StreamOptions(is_live=is_live, on_retry=_report_retry)
    async with ShapeStream(url, query, options=options) as stream:
        await (_print_lines(stream) if as_lines else _show_rows(stream, query))


def _report_retry(reason: str, delay_s: float) -> None:
    click.echo(f"pgshapes: {reason}; retrying in {delay_s:.1f} s", err=True)


async def _print_lines(stream: ShapeStream) -> None:
    from pgshapes.client import ChangeMessage

    async for message in stream:
        if isinstance(message, ChangeMessage):
            line = {"operation": message.operation.value, "key": message.key, "value": message.value}
        else:
            line = {"control": message.control}
        # Not orjson, because integers in a jsonb value may have more than 64 bits.
        click.echo(json.dumps(line, ensure_ascii=False))


async def _show_rows(stream: ShapeStream, query: Query) -> None:
    from rich.live import Live

    from pgshapes.cli.tail_view import TailView

    view = TailView(query.table)
    with Live(view.render(), auto_refresh=False) as live:
        try:
            while True:
                view.take(await stream.next_batch())
                live.update(view.render(live.console.height), refresh=True)
        except StopAsyncIteration:
            return
