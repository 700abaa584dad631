"""Configuration of the guard: which requests it allows."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ashwood.dashboard.guard.hosts import bare, host_name, is_everywhere, is_loopback, plain

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{16,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """Rules for the requests that the guard allows.

    Attributes:
        hosts: names and addresses, besides those of loopback, that the Host header may contain.
        any_address: whether the Host header may contain any IP address.  Another site can make its own name point at
            this server (DNS rebinding), but not an address.
        port: port of the server; the name of its cookie contains it.
        token: token that clients must send, or None if they need none.
        read_only: whether all changes are refused.
        harmless_posts: paths for which POST changes nothing.
        max_body: largest body of a request, in bytes.
        max_url: longest address of a request, in bytes.
        max_headers: largest headers of a request in all, in bytes.
        streams: largest number of concurrent live streams.
        streams_each: largest number of concurrent live streams of one client.
        changes_per_second: rate limit of one client's changing requests; twice as many may come at once.
        attempts_per_minute: rate limit of one client's wrong tokens.
    """

    hosts: frozenset[str] = frozenset()
    any_address: bool = False
    port: int = 0
    token: str | None = field(default=None, repr=False)
    read_only: bool = False
    harmless_posts: frozenset[str] = frozenset({"/api/v1/preview"})
    max_body: int = 1 << 20
    max_url: int = 8 << 10
    max_headers: int = 32 << 10
    streams: int = 400
    streams_each: int = 100
    changes_per_second: float = 20.0
    attempts_per_minute: int = 10

    def __post_init__(self) -> None:
        """Check that the token can be used in addresses and headers without escaping."""
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError("a token must have at least 16 characters, which may be letters, digits and . _ ~ -")


def rules_for(
    host: str,
    port: int,
    *,
    token: str | None = None,
    with_token: bool = False,
    allowed_hosts: Iterable[str] = (),
    read_only: bool = False,
) -> GuardRules:
    """Return the rules for a server at an address, with a new token if one is needed and none is given.

    Args:
        host: address to which the server is bound; ``0.0.0.0`` or ``::`` means all addresses of the machine.
        port: port of the server.
        token: token that clients know already, or None.
        with_token: whether a token is required on loopback too.
        allowed_hosts: more names and addresses that the Host header may contain.
        read_only: whether all changes are refused.
    """
    host = bare(host)
    if token is None and (with_token or not is_loopback(host)):
        token = secrets.token_urlsafe(32)
    everywhere = is_everywhere(host)
    names = {*allowed_hosts, *([] if everywhere else [host])}
    return GuardRules(
        hosts=frozenset(host_name(name.encode()) or plain(name) for name in names),
        any_address=everywhere,
        port=port,
        token=token,
        read_only=read_only,
    )
