"""Who knows the token: pure.

A client that has shown it once gets a cookie with a pass, a secret of this run of the server.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode

from ashwood.dashboard.guard.answers import Refusal
from ashwood.dashboard.guard.request import Request
from ashwood.dashboard.guard.rules import GuardRules

_OPEN_THE_ADDRESS = (
    "Open the address that `ashwood ui` printed: it ends in ?token=… (programs send it as a header, "
    "Authorization: Bearer TOKEN)."
)


def shown_token(request: Request) -> bytes | None:
    """The token that a client shows, right or wrong: in a header, or in the address of a page."""
    bearers = [value[7:].strip() for value in request.all(b"authorization") if value[:7].lower() == b"bearer "]
    tokens = bearers or (tokens_in_address(request) if request.opens_page else [])
    if not tokens:
        return None
    return tokens[0] if len(tokens) == 1 else b""


def tokens_in_address(request: Request) -> list[bytes]:
    """What stands as a token in the address."""
    return [value.encode(errors="replace") for name, value in _parameters(request.query) if name == "token"]


def is_secret(shown: bytes, secret: str) -> bool:
    """Whether somebody knows a secret, in a time that tells nothing about it."""
    return hmac.compare_digest(shown, secret.encode())


def has_pass(request: Request, rules: GuardRules, secret: str) -> bool:
    """Whether it comes with a cookie that holds the pass."""
    name = _cookie_name(rules)
    return any(is_secret(value, secret) for key, value in _cookies(request) if key == name)


def cookie_with_pass(request: Request, rules: GuardRules, secret: str) -> bytes:
    """A cookie for later requests, that scripts can't read.

    Lax, not Strict: what is opened from a link, in a chat or a terminal in the browser, comes with it.  Such a link
    reads and changes nothing; what changes something is refused to other sites by where it comes from.
    """
    secure = b"; Secure" if request.scheme == "https" else b""
    return b"%s=%s; Path=/; HttpOnly; SameSite=Lax%s" % (_cookie_name(rules), secret.encode(), secure)


def without_token(request: Request) -> str:
    """The address of a page without the token, on this server whatever stands in it."""
    rest = query_without_token(request).decode()
    return "/" + quote(request.path.lstrip("/\\"), errors="replace") + ("?" + rest if rest else "")


def query_without_token(request: Request) -> bytes:
    """The rest of the address's parameters."""
    return urlencode([(name, value) for name, value in _parameters(request.query) if name != "token"]).encode()


def unknown() -> Refusal:
    """No token, where one is needed."""
    return _unauthorised("This dashboard asks for a token.")


def wrong_token() -> Refusal:
    """Another token than the right one."""
    return _unauthorised("This isn't the token of this dashboard.")


def _unauthorised(what: str) -> Refusal:
    return Refusal(
        401, what, _OPEN_THE_ADDRESS, ((b"www-authenticate", b'Bearer realm="ashwood"'),), asks_for_token=True
    )


def _cookie_name(rules: GuardRules) -> bytes:
    """With the port in it: cookies of one host are shared by all its ports."""
    return b"ashwood_%d" % rules.port


def _cookies(request: Request) -> Iterable[tuple[bytes, bytes]]:
    for header in request.all(b"cookie"):
        for part in header.split(b";"):
            name, _, value = part.strip().partition(b"=")
            yield name, value


def _parameters(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)
