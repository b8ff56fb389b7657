"""Which of two HTTP processes has accepted a connection."""

from __future__ import annotations

import http.client
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from tests.support.servers.servers import Server

MOST_CONNECTIONS: Final = 500
"""The kernel gives a connection to the process that is faster, which may be the same one many times."""


def connections_to_both(
    stack: ExitStack, server: Server, pid: int, *, at_least: int = 1
) -> tuple[list[http.client.HTTPConnection], list[http.client.HTTPConnection]]:
    """Connections that the process has accepted, and connections that the other one has."""
    theirs: list[http.client.HTTPConnection] = []
    ours: list[http.client.HTTPConnection] = []
    while min(len(theirs), len(ours)) < at_least:
        assert len(theirs) + len(ours) < MOST_CONNECTIONS, "one process accepts all connections"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        stack.enter_context(closing(connection))
        connection.request("GET", "/")
        connection.getresponse().read()
        (theirs if _is_of(pid, connection) else ours).append(connection)
    return theirs, ours


def _is_of(pid: int, connection: http.client.HTTPConnection) -> bool:
    host, port = connection.sock.getsockname()[:2]
    address = "".join(f"{int(part):02X}" for part in reversed(host.split("."))) + f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {line.split()[9] for line in lines if line.split()[2] == address}
    links = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    return any(f"socket:[{inode}]" in links for inode in inodes)
