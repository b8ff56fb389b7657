"""PgBouncer from Debian's packages, in a folder of its own: `python -m tests.support.pooler.installation`.

It needs no rights and changes nothing outside of that folder. Where it cannot be had, the file `REASON` says
why, and the tests that need it are skipped with this reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "installed"
REASON: Final = FOLDER / "REASON"
PROGRAM: Final = "usr/sbin/pgbouncer"

VERSION: Final = "1.18.0-1+deb12u1"
"""Of Debian 12; elsewhere the distribution's own is taken."""


class NotInstalled(Exception):
    """PgBouncer cannot be had here; the text says why."""


def install() -> None:
    """Fill the folder, with the packages or with the reason why not."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    try:
        _unpack()
    except NotInstalled as error:
        REASON.write_text(str(error))
        print(f"tests with PgBouncer will be skipped: {error}", file=sys.stderr)


def environment(place: Path) -> dict[str, str]:
    """The environment in which the program of an unpacked `place` finds its libraries."""
    folders = sorted({str(library.parent) for library in place.rglob("*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)}


def _unpack() -> None:
    for program in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(program) is None:
            raise NotInstalled(f"there is no {program}: this is not Debian")
    try:
        _fetch(())
    except NotInstalled:
        own_lists = _own_lists()
        _run("apt-get", *own_lists, "update")
        _fetch(own_lists)
    for archive in FOLDER.glob("*.deb"):
        _run("dpkg", "-x", str(archive), str(FOLDER))
        archive.unlink()
    for folder in ("lists", "cache", "etc", "usr/share"):
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
    shown = subprocess.run(
        [FOLDER / PROGRAM, "--version"], check=False, capture_output=True, text=True, env=environment(FOLDER)
    )
    if shown.returncode != 0:
        raise NotInstalled(f"PgBouncer does not run: {shown.stderr.strip()}")


def _own_lists() -> tuple[str, ...]:
    """Options of apt for package lists in the folder, which need no rights: the system may have none."""
    for folder in ("lists", "cache/archives"):
        (FOLDER / folder / "partial").mkdir(parents=True, exist_ok=True)
    options = (f"Dir::State::lists={FOLDER}/lists", f"Dir::Cache={FOLDER}/cache", "Debug::NoLocking=1")
    return tuple(part for option in options for part in ("-o", option))


def _fetch(options: tuple[str, ...]) -> None:
    try:
        _run("apt-get", *options, "download", f"pgbouncer={VERSION}")
    except NotInstalled:
        _run("apt-get", *options, "download", "pgbouncer")
    for package in _libraries(options):
        _run("apt-get", *options, "download", package)


def _libraries(options: tuple[str, ...]) -> list[str]:
    lines = _run("apt-cache", *options, "depends", "pgbouncer").splitlines()
    names = [line.split("Depends:")[1].strip() for line in lines if line.strip().startswith("Depends: lib")]
    return [name for name in names if name != "libc6"]


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=FOLDER)
    if done.returncode != 0:
        raise NotInstalled(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
    return done.stdout


if __name__ == "__main__":
    install()
