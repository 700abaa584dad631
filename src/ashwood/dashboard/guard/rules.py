"""What the guard lets through."""

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
    """What is let through.

    Attributes:
        hosts: names and addresses, besides those of loopback, under which the server is asked.
        any_address: it is asked under any address as well: no site can make an address its own, as it can a name.
        port: where it listens; cookies are named by it.
        token: what a client must know; None: nothing.
        read_only: nothing may be changed.
        harmless_posts: paths under which POST changes nothing.
        max_body: bytes of a request's body.
        max_url: bytes of its address.
        max_headers: bytes of its headers.
        streams: live answers at once.
        streams_each: of these, for one client.
        changes_per_second: requests other than for reading, of one client, and twice as many at once.
        attempts_per_minute: wrong tokens, of one client.
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
        """Check the token, which goes into addresses and headers as it is."""
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError("a token has at least 16 characters, of letters, digits and the signs . _ ~ -")


def rules_for(
    host: str,
    port: int,
    *,
    token: str | None = None,
    with_token: bool = False,
    allowed_hosts: Iterable[str] = (),
    read_only: bool = False,
) -> GuardRules:
    """The rules of a server that is bound to this address; with a new token where one is needed and none is given.

    Args:
        host: what it is bound to; all addresses of the machine: ``0.0.0.0`` or ``::``.
        port: where it listens.
        token: one that clients know already.
        with_token: ask for a token on loopback, too.
        allowed_hosts: further names and addresses under which it is asked.
        read_only: nothing may be changed.
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
