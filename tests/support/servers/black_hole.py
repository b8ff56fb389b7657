"""A TCP proxy that can stop forwarding without closing anything, as a tunnel or a suspended host does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards connections to one address. `swallow` makes a black hole of those that are open."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._swallowed: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def swallow(self) -> int:
        """Discard all that arrives on the open connections from now on, and keep them open. New ones are
        forwarded. Returns how many there were.
        """
        with self._lock:
            links, self._links = self._links, []
            self._swallowed += links
        for link in links:
            link.is_swallowing = True
        return len(links)

    def close(self) -> None:
        """Stop listening, and close the connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for link in (*self._links, *self._swallowed):
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                link = _Link(client, socket.create_connection(self._target))
                with self._lock:
                    self._links.append(link)
                link.start()


class _Link:
    """Two sockets, and a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.is_swallowing = False
        self._ends = (client, server)
        self._threads = [
            threading.Thread(target=self._forward, args=pair, daemon=True)
            for pair in (self._ends, self._ends[::-1])
        ]

    def start(self) -> None:
        """Begin to forward."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both connections."""
        self._shut_down()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.is_swallowing:
                    target.sendall(data)
        if not self.is_swallowing:
            self._shut_down()

    def _shut_down(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of the server of a URL, and the URL that leads through it."""
    parts = urlsplit(url)
    proxy = Proxy((parts.hostname or "127.0.0.1", parts.port or 5432))
    account = "" if "@" not in parts.netloc else parts.netloc.rpartition("@")[0] + "@"
    try:
        yield proxy, urlunsplit(parts._replace(netloc=f"{account}127.0.0.1:{proxy.port}"))
    finally:
        proxy.close()
