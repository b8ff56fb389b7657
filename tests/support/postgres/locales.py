"""A locale that is compiled for a test, and where Postgres's processes find it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def german() -> Iterator[str]:
    """The name of a German locale that servers started inside can use; skips the test where it cannot be
    compiled.
    """
    name = "de_DE.UTF-8"
    with (
        tempfile.TemporaryDirectory(prefix="pgshapes-locales-") as place,
        pytest.MonkeyPatch.context() as env,
    ):
        Path(place).chmod(0o755)
        command = ["localedef", "-i", "de_DE", "-f", "UTF-8", f"{place}/{name}"]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no localedef")
        if not Path(place, name, "LC_MONETARY").exists():
            pytest.skip(
                f"the locale {name} cannot be compiled (Debian: package locales): {done.stderr[:200]}"
            )
        env.setenv("LOCPATH", place)
        yield name
