"""Token authentication; pure functions.

A client that has sent the token once gets a cookie with a pass, a secret that each start of the server makes anew.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode

from ashwood.dashboard.guard.request import HttpRequest
from ashwood.dashboard.guard.responses import Refusal
from ashwood.dashboard.guard.rules import GuardRules

_OPEN_THE_ADDRESS = (
    "Open the address that `ashwood ui` printed: it ends in ?token=… (programs send it as a header, "
    "Authorization: Bearer TOKEN)."
)


def shown_token(request: HttpRequest) -> bytes | None:
    """Return the token in a request's header or page address, empty if there are several, or None if there is none."""
    bearers = [value[7:].strip() for value in request.all(b"authorization") if value[:7].lower() == b"bearer "]
    tokens = bearers or (tokens_in_address(request) if request.opens_page else [])
    if not tokens:
        return None
    return tokens[0] if len(tokens) == 1 else b""


def tokens_in_address(request: HttpRequest) -> list[bytes]:
    """Return all values of the parameter ``token`` in the address."""
    return [value.encode(errors="replace") for name, value in _parameters(request.query) if name == "token"]


def is_secret(shown: bytes, secret: str) -> bool:
    """Return whether a value equals a secret, in a time that reveals nothing about the secret."""
    return hmac.compare_digest(shown, secret.encode())


def has_pass(request: HttpRequest, rules: GuardRules, secret: str) -> bool:
    """Return whether a request has a cookie that contains the pass."""
    name = _cookie_name(rules)
    return any(is_secret(value, secret) for key, value in _cookies(request) if key == name)


def cookie_with_pass(request: HttpRequest, rules: GuardRules, secret: str) -> bytes:
    """Return a cookie with the pass for later requests, which scripts cannot read.

    It is SameSite=Lax, not Strict, so that browsers send it when a user follows a link, for example in a chat.  Such a
    link only reads.  Changes that come from pages of other sites are refused by their origin.
    """
    secure = b"; Secure" if request.scheme == "https" else b""
    return b"%s=%s; Path=/; HttpOnly; SameSite=Lax%s" % (_cookie_name(rules), secret.encode(), secure)


def without_token(request: HttpRequest) -> str:
    """Return the address of a page without the token.

    It begins with exactly one slash: with two, a browser would read the rest as the name of another server.
    """
    rest = query_without_token(request).decode()
    return "/" + quote(request.path.lstrip("/\\"), errors="replace") + ("?" + rest if rest else "")


def query_without_token(request: HttpRequest) -> bytes:
    """Return the query string without the token."""
    return urlencode([(name, value) for name, value in _parameters(request.query) if name != "token"]).encode()


def unknown() -> Refusal:
    """Return the refusal of a request without a token."""
    return _unauthorised("This dashboard asks for a token.")


def wrong_token() -> Refusal:
    """Return the refusal of a request with a wrong token."""
    return _unauthorised("This isn't the token of this dashboard.")


def _unauthorised(what: str) -> Refusal:
    return Refusal(
        401, what, _OPEN_THE_ADDRESS, ((b"www-authenticate", b'Bearer realm="ashwood"'),), asks_for_token=True
    )


def _cookie_name(rules: GuardRules) -> bytes:
    """Return the cookie's name, which contains the port because browsers share cookies between all ports of a host."""
    return b"ashwood_%d" % rules.port


def _cookies(request: HttpRequest) -> Iterable[tuple[bytes, bytes]]:
    for header in request.all(b"cookie"):
        for part in header.split(b";"):
            name, _, value = part.strip().partition(b"=")
            yield name, value


def _parameters(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)
