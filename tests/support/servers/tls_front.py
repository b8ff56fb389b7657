"""A TLS server in front of a Postgres that has no TLS, as providers put one in front of theirs.

The certificate is for `localhost` and signed by `CA`; both are valid for 100 years. `OTHER_CA` signed
nothing. They were made with `openssl req -x509` and `openssl x509 -req`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

_CERTIFICATES = Path(__file__).with_name("certificates")
CA = _CERTIFICATES / "ca.pem"
OTHER_CA = _CERTIFICATES / "other_ca.pem"

_REQUEST_BYTES = 8
"""The length of SSLRequest (manual: Message Formats)."""


@contextlib.contextmanager
def tls_front(port: int) -> Iterator[int]:
    """Serve TLS in front of the Postgres at `port` of 127.0.0.1; returns the port of the front."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_CERTIFICATES / "server.pem", _CERTIFICATES / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, context, port), daemon=True)
        accepting.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, context, port), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Answer SSLRequest, and pass on what follows. A client without TLS is not answered."""
    with contextlib.suppress(OSError), client:
        client.recv(_REQUEST_BYTES, socket.MSG_WAITALL)
        client.sendall(b"S")
        with (
            context.wrap_socket(client, server_side=True) as encrypted,
            socket.create_connection(("127.0.0.1", port)) as postgres,
        ):
            back = threading.Thread(target=_pump, args=(postgres, encrypted), daemon=True)
            back.start()
            _pump(encrypted, postgres)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
