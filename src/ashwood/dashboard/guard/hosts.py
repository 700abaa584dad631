"""Parsing and comparing of host names and IP addresses."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import Final

_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def host_name(host: bytes) -> str | None:
    """Return the normalised name in a Host header, or None if the header is malformed."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    address, name = match.groups()
    if address is None:
        return plain(name.decode())
    return plain(address.decode()) if b":" in address and is_address(address.decode()) else None


def is_loopback(host: str) -> bool:
    """Return whether a server bound to this host can be reached only from this machine."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def is_everywhere(host: str) -> bool:
    """Return whether a server bound to this host listens at all addresses of the machine."""
    if is_address(host):
        return ip_address(host).is_unspecified
    try:  # The system's resolver also takes short forms of 0.0.0.0: 0, 0.0 or 0x0.
        return host == "" or socket.inet_aton(host) == bytes(4)
    except (OSError, ValueError):
        return False


def bare(host: str) -> str:
    """Return an address without the brackets that it has in URLs, or an empty string for ``*``, as servers expect."""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return "" if host == "*" else host


def is_address(name: str) -> bool:
    """Return whether a name is an IP address, of version 4 or 6."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def plain(name: str) -> str:
    """Return a name or an address in the normalised form that is used to compare them."""
    return str(ip_address(name)) if is_address(name) else name.lower()
