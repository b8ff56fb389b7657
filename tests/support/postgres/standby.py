"""A streaming standby of an embedded server."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgshapes.embedded.binaries import server_account
from pgshapes.embedded.server import EmbeddedPostgres


@contextlib.contextmanager
def streaming_standby(primary: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A standby that follows the primary, with the same password.

    It begins as a copy of the files of the primary, which is stopped for that and gets another port. The
    embedded servers have the same limits, as a standby needs.
    """
    account = server_account()
    with tempfile.TemporaryDirectory(prefix="pgshapes-standby-") as name:
        data = Path(name) / "data"
        primary.stop()
        shutil.copytree(primary.data_dir, data)
        primary.start()
        (data / "standby.signal").touch()
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{primary.url()}'\n")
        for path in (data.parent, data, *data.rglob("*")):
            account.chown(path)
        with EmbeddedPostgres(data, version=primary.version) as standby:
            yield standby
