"""`pgshapes dev`: a complete setup for trying pgshapes out, without anything else installed.

It runs an embedded Postgres with a sample table whose rows change, and a server without a secret on the
loopback address. Data is kept in `.pgshapes/` in the current directory; with `--fresh` it is deleted at the
end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pgshapes.config import Settings
from pgshapes.errors import ConfigError

if TYPE_CHECKING:
    from pgshapes.embedded.server import EmbeddedPostgres

HOST: Final = "127.0.0.1"
DATA_DIR: Final = Path(".pgshapes")


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="0 selects a free port."
)
@click.option("--fresh", is_flag=True, help="Start without data, and keep none.")
@click.option("--postgres", "version", type=click.Choice(["16", "18"]), default="16", show_default=True)
@click.option("--log-level", default="warning", show_default=True)
def dev(port: int, fresh: bool, version: str, log_level: str) -> int:
    """Try pgshapes: run an embedded Postgres, a sample table with changing rows, and a server.

    Data is kept in .pgshapes/ in the current directory, unless --fresh is given.
    """
    from pgshapes.cli.serve import run_server

    port = _free_port(port)
    with (
        _directories(fresh=fresh) as (postgres_dir, storage_dir),
        _postgres(postgres_dir, int(version)) as postgres,
    ):
        settings = Settings(
            database_url=postgres.url(),
            host=HOST,
            port=port,
            storage_dir=storage_dir,
            workers=0,
            insecure=True,
            allow_delete=True,
            log_level=log_level,
        )
        with _DemoThread(settings):
            return run_server(settings)


@contextlib.contextmanager
def _directories(*, fresh: bool) -> Iterator[tuple[Path | None, Path]]:
    if fresh:
        with tempfile.TemporaryDirectory(prefix="pgshapes-") as directory:
            yield None, Path(directory) / "shapes"
    else:
        yield DATA_DIR / "postgres", DATA_DIR / "shapes"


@contextlib.contextmanager
def _postgres(data_dir: Path | None, version: int) -> Iterator[EmbeddedPostgres]:
    from pgshapes.embedded.server import EmbeddedPostgres

    click.echo("starting Postgres", err=True)
    try:
        postgres = EmbeddedPostgres(data_dir, version=version)
        postgres.start()
    except ConfigError as error:
        hint = "" if data_dir is None else "; pgshapes dev --fresh does not use that directory and may work"
        raise ConfigError(error.message + hint) from error
    with contextlib.closing(postgres):
        yield postgres


def _free_port(port: int) -> int:
    """The port, or a free one for 0. Raises ConfigError if it is in use, so before Postgres is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} is in use: choose another with --port; 0 selects a free port"
            ) from error
        return int(probe.getsockname()[1])


class _DemoThread:
    """Prints the guide and changes rows while the server runs, in a thread with its own event loop.

    Waits until the server is ready, prints the guide, then changes rows until the end of the block. If it
    fails, it stops the server, and the end of the block raises the error.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._demonstrate())
        self._thread = threading.Thread(target=self._run, name="pgshapes-dev-demo")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        self._loop.close()
        if not self._task.cancelled():
            self._task.result()

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.wait([self._task]))
        if not self._task.cancelled():
            os.kill(os.getpid(), signal.SIGTERM)

    async def _demonstrate(self) -> None:
        from pgshapes.cli.dev_guide import guide
        from pgshapes.cli.sample_rows import change_rows, create_sample_table
        from pgshapes.client import Backoff, ShapeStream, StreamOptions

        url = f"http://{HOST}:{self._settings.port}"
        await create_sample_table(self._settings.database_url)
        options = StreamOptions(is_live=False, backoff=Backoff(cap_s=0.5))
        async with ShapeStream(url, "items", options=options) as stream:
            async for _ in stream:
                pass
            click.echo(guide(url, self._settings.database_url, stream.position))
        await change_rows(self._settings.database_url)
