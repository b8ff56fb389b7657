"""A client of one server over one connection, one request at a time: a quarter of the CPU of `httpx.Client`.

For tests that make tens of thousands of requests in a row. It follows no redirects, decodes no content
coding and repeats nothing.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Protocol, Self
from urllib.parse import urlencode, urlsplit

import httpx


class Client(Protocol):
    """What a materialised shape needs of a client."""

    def get(self, url: str, *, params: dict[str, str], timeout: float) -> httpx.Response: ...


class PlainClient:
    """Requests to the server whose URL it is made with; a context manager that closes the connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, url: str, *, params: Mapping[str, str], timeout: float = 60) -> httpx.Response:
        """The response to a GET."""
        return self._request("GET", url, params, timeout)

    def delete(self, url: str, *, params: Mapping[str, str], timeout: float = 60) -> httpx.Response:
        """The response to a DELETE."""
        return self._request("DELETE", url, params, timeout)

    def _request(self, method: str, url: str, params: Mapping[str, str], timeout_s: float) -> httpx.Response:
        connection = self._connection
        if connection.sock is None:
            connection.timeout = timeout_s
            connection.connect()
        else:
            connection.sock.settimeout(timeout_s)
        connection.request(method, f"{urlsplit(url).path}?{urlencode(params)}")
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
