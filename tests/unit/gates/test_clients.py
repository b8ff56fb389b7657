"""Whom a request counts for."""

from __future__ import annotations

import pytest

from pgshapes.config_values import parse_networks
from pgshapes.gates.clients import Clients

CLIENTS = Clients(parse_networks("10.0.0.0/8,::1"))


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("10.1.2.3", None),
        ("::ffff:10.1.2.3", None),
        ("::1", None),
        ("", None),
        ("no address", None),
    ],
)
def test_addresses(address: str, client: str | None) -> None:
    assert CLIENTS.of_address(address) == client


@pytest.mark.parametrize(
    ("address", "forwarded", "client"),
    [
        ("192.0.2.1", [b"198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [b"198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", [b"203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", [b"203.0.113.9", b"198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", [b"10.0.0.9"], None),
        ("10.0.0.1", [b"\xff\xff, unknown"], None),
        ("10.0.0.1", [], None),
    ],
)
def test_requests(address: str, forwarded: list[bytes], client: str | None) -> None:
    assert CLIENTS.of_request(address, forwarded) == client


def test_no_proxy_is_trusted() -> None:
    clients = Clients(parse_networks("none"))
    assert clients.of_request("127.0.0.1", [b"198.51.100.7"]) == "127.0.0.1"
