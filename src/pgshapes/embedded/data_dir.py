"""The embedded server's data directory: made by `initdb`, recognised when it is there already.

Not here: running the server. The password of the superuser is made up at `initdb` and kept in the
directory, which only the server's user and root can read. State: the directory belongs to the server as
soon as it runs.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from pgshapes.embedded.binaries import Account
from pgshapes.errors import ConfigError

SUPERUSER: Final = "postgres"
_PASSWORD_FILE: Final = "superuser_password"


class DataDirectory:
    """One directory, for a server of one version that runs as one user."""

    def __init__(self, path: Path, version: int, account: Account) -> None:
        self.path = path
        self._version = version
        self._account = account

    @property
    def is_initialised(self) -> bool:
        """Whether `initdb` has been here."""
        return (self.path / "PG_VERSION").exists()

    @property
    def password(self) -> str:
        """The superuser's password. Raises ConfigError when the data are somebody else's."""
        try:
            return (self.path / _PASSWORD_FILE).read_text()
        except OSError:
            raise ConfigError(f"{self.path} was not made by pgshapes: it has no {_PASSWORD_FILE}") from None

    @property
    def server_pid(self) -> int:
        """The process id of the server that runs on the data. Raises ConfigError when none does."""
        try:
            return int((self.path / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            raise ConfigError("the embedded Postgres is not running") from None

    def check(self) -> None:
        """Raises ConfigError unless a server of our version made the data."""
        found = (self.path / "PG_VERSION").read_text().strip()
        if found != str(self._version):
            raise ConfigError(
                f"{self.path} holds data of Postgres {found}: use that version or another directory"
            )
        _ = self.password

    def initialise(self, initdb: str, scratch: Path, *, is_synced: bool) -> None:
        """Make a cluster. Raises ConfigError with the reason why it cannot be made here."""
        self._make()
        password = scratch / _PASSWORD_FILE
        self._write_secret(password, secrets.token_hex(16))
        command = [initdb, "-D", str(self.path), "-U", SUPERUSER, f"--pwfile={password}"]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        # The password has 128 random bits: stretching it would only make each connection slower.
        command += ["-c", "scram_iterations=1"]
        done = self._account.run(command if is_synced else [*command, "--no-sync"])
        if done.returncode != 0:
            raise ConfigError(
                f"initdb in {self.path} failed as {self._account.name}: {last_line(done.stderr)}"
            )
        self._write_secret(self.path / _PASSWORD_FILE, password.read_text())
        password.unlink()

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise ConfigError(
                    f"{self.path} is neither empty nor a Postgres server's: use another directory"
                )
            self._account.own(self.path)
            self.path.chmod(0o700)
        except OSError as error:
            raise ConfigError(f"cannot make the data directory {self.path}: {error.strerror}") from error

    def _write_secret(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)
        self._account.own(path)


def last_line(text: str) -> str:
    """The line that says why it failed: the last one that names an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (telling or lines or ["it said nothing"])[-1]
