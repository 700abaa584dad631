"""Names and addresses of machines."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import Final

_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def host_name(host: bytes) -> str | None:
    """The name in a Host header, as names are compared; None: it isn't one."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    address, name = match.groups()
    if address is None:
        return plain(name.decode())
    return plain(address.decode()) if b":" in address and is_address(address.decode()) else None


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a server that is bound to this."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def is_everywhere(host: str) -> bool:
    """Whether a server that is bound to this listens at all addresses of the machine."""
    if is_address(host):
        return ip_address(host).is_unspecified
    try:  # as whoever resolves names reads 0, 0.0 or 0x0
        return host == "" or socket.inet_aton(host) == bytes(4)
    except (OSError, ValueError):
        return False


def bare(host: str) -> str:
    """An address without the brackets that it has in URLs, and ``*`` as servers are bound to it."""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return "" if host == "*" else host


def is_address(name: str) -> bool:
    """Whether it is an address, of version 4 or 6."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def plain(name: str) -> str:
    """A name or an address as they are compared."""
    return str(ip_address(name)) if is_address(name) else name.lower()
