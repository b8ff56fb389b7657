"""Who a request is from, for the limits that are shared between clients. Pure.

A client is an IPv4 address, or the first 64 bits of an IPv6 address, because that is what one host has. A
trusted proxy is not a client: its requests count for the address that it forwards, and for nobody if it
forwards none. The header is believed from trusted proxies only, because any client can send it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

FORWARDED: Final = b"x-forwarded-for"
Network = IPv4Network | IPv6Network

_REMEMBERED: Final = 4096
_HOST_BITS_V6: Final = 64


class Clients:
    """Names the clients, for given trusted proxies."""

    def __init__(self, trusted: Iterable[Network]) -> None:
        self._trusted = tuple(trusted)
        self.of_address = lru_cache(_REMEMBERED)(self._of_address)
        """The client with this address; None for a trusted proxy and for what is no address."""

    def of_request(self, address: str, forwarded: Iterable[bytes]) -> str | None:
        """The client of a request from `address`; `forwarded` are the values of `FORWARDED`."""
        client = self.of_address(address)
        if client is not None:
            return client
        hops = b",".join(forwarded).decode("latin-1").split(",")
        found = (self.of_address(hop.strip()) for hop in reversed(hops))
        return next((each for each in found if each is not None), None)

    def _of_address(self, text: str) -> str | None:
        address = _parse(text)
        if address is None or any(address in network for network in self._trusted):
            return None
        if isinstance(address, IPv4Address):
            return str(address)
        return str(ip_network((int(address) >> _HOST_BITS_V6 << _HOST_BITS_V6, _HOST_BITS_V6)))


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
