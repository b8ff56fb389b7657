"""The embedded server's data directory: created by `initdb`, or checked if it exists.

Not here: running the server. `initialise` generates the superuser's password and stores it in the directory,
which only the server's user and root can read. State: a running server owns the directory.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from pgshapes.embedded.binaries import Account
from pgshapes.errors import ConfigError

SUPERUSER: Final = "postgres"
_PASSWORD_FILE: Final = "superuser_password"
_HAS_SCRAM_ITERATIONS: Final = 16
"""The version from which on the setting exists, and `initdb -c`."""


class DataDirectory:
    """A data directory for a server of one version that runs as one user."""

    def __init__(self, path: Path, version: int, account: Account) -> None:
        self.path = path
        self._version = version
        self._account = account

    @property
    def is_initialised(self) -> bool:
        """Whether the directory contains a cluster."""
        return (self.path / "PG_VERSION").exists()

    @property
    def password(self) -> str:
        """The superuser's password. Raises ConfigError if pgshapes did not create the cluster."""
        try:
            return (self.path / _PASSWORD_FILE).read_text()
        except OSError:
            raise ConfigError(
                f"{self.path} was not created by pgshapes: it has no {_PASSWORD_FILE}"
            ) from None

    @property
    def server_pid(self) -> int:
        """The process id of the server that uses the directory. Raises ConfigError if there is none."""
        try:
            return int((self.path / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            raise ConfigError("the embedded Postgres is not running") from None

    def check(self) -> None:
        """Raise ConfigError unless pgshapes created the cluster with this version."""
        found = (self.path / "PG_VERSION").read_text().strip()
        if found != str(self._version):
            raise ConfigError(
                f"{self.path} contains data of Postgres {found}: use that version or another directory"
            )
        _ = self.password

    def initialise(self, initdb: str, scratch: Path, *, is_synced: bool) -> None:
        """Create a cluster. Raises ConfigError with the reason if that fails."""
        self._make()
        password = scratch / _PASSWORD_FILE
        self._write_secret(password, secrets.token_hex(16))
        command = [initdb, "-D", str(self.path), "-U", SUPERUSER, f"--pwfile={password}"]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        if self._version >= _HAS_SCRAM_ITERATIONS:
            # The password has 128 random bits; more iterations would only make connections slower.
            command += ["-c", "scram_iterations=1"]
        done = self._account.run(command if is_synced else [*command, "--no-sync"])
        if done.returncode != 0:
            raise ConfigError(
                f"initdb in {self.path} failed as {self._account.name}: {error_line(done.stderr)}"
            )
        self._write_secret(self.path / _PASSWORD_FILE, password.read_text())
        password.unlink()

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise ConfigError(
                    f"{self.path} is not empty and not a Postgres data directory: use another directory"
                )
            self._account.chown(self.path)
            self.path.chmod(0o700)
        except OSError as error:
            raise ConfigError(f"cannot create the data directory {self.path}: {error.strerror}") from error

    def _write_secret(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)
        self._account.chown(path)


def error_line(text: str) -> str:
    """The last line that names an error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (errors or lines or ["no output"])[-1]
