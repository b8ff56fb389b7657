"""What a process writes and what others see of it contains no secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ON_LINUX = pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="the command line cannot be changed"
)

SHOW_ARGUMENTS = """
import sys
from pathlib import Path
from pgshapes.server.environment import hide_arguments
hide_arguments(sys.argv[1].split(","))
print(Path("/proc/self/cmdline").read_bytes().split(b"\\0")[4:-1])
"""


@ON_LINUX
def test_arguments_are_overwritten_where_others_see_them() -> None:
    arguments = ["--secret", "hunter22", "--database-url=postgresql://a:b@c/d?e=f", "other", "ab", "x=y"]
    hidden = ",".join(("hunter22", "postgresql://a:b@c/d?e=f", "ab"))
    shown = run(SHOW_ARGUMENTS, hidden, *arguments).stdout
    url = "***".ljust(len("postgresql://a:b@c/d?e=f"))
    assert shown.strip() == str(
        [b"--secret", b"***     ", f"--database-url={url}".encode(), b"other", b"**", b"x=y"]
    )


WRITE = """
import asyncio, logging, structlog
from pgshapes.config import Settings
from pgshapes.server.environment import configure_logs, hide_secrets
settings = Settings(database_url="postgresql://me:zebra%40zoo@db/app", secret="okapi-okapi")
hide_secrets(settings)
configure_logs("info")
structlog.get_logger().info("zebra@zoo", url=settings.database_url, it=["okapi-okapi"])
try:
    raise ValueError("zebra@zoo")
except ValueError:
    structlog.get_logger().exception("failed")
logging.getLogger("library").warning("library: %s", "okapi-okapi")
logging.getLogger("library").info("library: not shown")
async def main():
    asyncio.get_running_loop().call_exception_handler({"message": "loop: zebra@zoo"})
asyncio.run(main())
raise RuntimeError("end: okapi-okapi from-the-environment")
"""


def test_no_line_contains_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "from-the-environment")
    done = run(WRITE)
    assert done.returncode == 1
    for text in ("event='***'", "postgresql://me:***@db/app", "ValueError: ***", "library: ***", "loop: ***"):
        assert text in done.stderr, done.stderr
    assert "RuntimeError: end: *** ***" in done.stderr
    for secret in ("zebra", "okapi", "from-the-environment", "not shown"):
        assert secret not in done.stderr.replace('raise ValueError("zebra@zoo")', "")


FLOOD = """
import logging
from pgshapes.server.environment import configure_logs
configure_logs("info")
server, library = logging.getLogger("uvicorn.error"), logging.getLogger("library")
for number in range(1000):
    server.warning("Invalid HTTP request received.")
    library.warning("another %d", number)
    try:
        raise ValueError("100 % of it") if number % 2 else KeyError(number)
    except Exception:
        server.exception("Exception in ASGI application")
"""


def test_clients_do_not_decide_how_many_lines_the_http_server_writes() -> None:
    lines = run(FLOOD).stderr.splitlines()
    assert lines.count("Invalid HTTP request received.") == 1
    assert lines.count("Exception in ASGI application") == 2
    assert "another 999" in lines


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True
    )
