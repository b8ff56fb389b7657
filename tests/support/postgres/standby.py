"""A streaming standby of an embedded server, made with `pg_basebackup`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pgshapes.embedded.binaries import programs_for, server_account
from pgshapes.embedded.server import EmbeddedPostgres


@contextlib.contextmanager
def streaming_standby(
    primary: EmbeddedPostgres, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[EmbeddedPostgres]:
    """A standby that follows the primary; it has the same password, and needs the same limits in
    `settings`.
    """
    account = server_account()
    with tempfile.TemporaryDirectory(prefix="pgshapes-standby-") as name:
        directory = Path(name)
        account.chown(directory)
        programs = programs_for(primary.version, account, directory)
        data = directory / "data"
        command = [str(programs / "pg_basebackup"), "-D", str(data), "-R", "-X", "stream", "--no-sync"]
        done = account.run([*command, "-c", "fast", "-d", primary.url()])
        if done.returncode != 0:
            raise RuntimeError(f"pg_basebackup failed: {done.stderr}")
        with EmbeddedPostgres(data, version=primary.version, settings=settings) as standby:
            yield standby
