"""`pgshapes tail TABLE`: watch a shape in the terminal, or read it in a pipe.

On a terminal the rows as they are now, the changed ones on top; in a pipe a line of JSON for each message.
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
@click.option("--where", help="SQL condition that the rows meet.")
@click.option(
    "--param", "params", multiple=True, help="Value of $1, $2, … of the condition; give it once for each."
)
@click.option("--columns", help="Names of the columns to fetch, with commas between them.")
@click.option("--replica", type=click.Choice(["default", "full"]), default="default", show_default=True)
@click.option(
    "--url",
    envvar="PGSHAPES_URL",
    default="http://localhost:3000",
    show_default=True,
    help="Address of the server.",
)
@click.option(
    "--secret", envvar=["PGSHAPES_SECRET", "ELECTRIC_SECRET"], help="What the server wants to be told."
)
@click.option("--once", is_flag=True, help="End when the rows are complete.")
@click.option("--lines", is_flag=True, help="Lines of JSON, also on a terminal.")
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
    """Watch the rows of TABLE, or those that meet a condition."""
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

    options = StreamOptions(is_live=is_live, on_retry=_say_retry)
    async with ShapeStream(url, query, options=options) as stream:
        await (_print_lines(stream) if as_lines else _show_rows(stream, query))


def _say_retry(reason: str, delay_s: float) -> None:
    click.echo(f"pgshapes: {reason}; again in {delay_s:.1f} s", err=True)


async def _print_lines(stream: ShapeStream) -> None:
    from pgshapes.client import ChangeMessage

    async for message in stream:
        if isinstance(message, ChangeMessage):
            line = {"operation": message.operation.value, "key": message.key, "value": message.value}
        else:
            line = {"control": message.control}
        # Not orjson: integers in a jsonb value may have more than 64 bits.
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
