"""Responses of the guard itself, and the security headers of every response; pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Final, NamedTuple

Headers = list[tuple[bytes, bytes]]

# Plotly sets styles on elements, which needs 'unsafe-inline' for styles.  Its WebGL charts would need 'unsafe-eval' for
# scripts, which is not allowed: the pages draw such charts differently.
_CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)

PROTECTION: Final = {
    b"content-security-policy": _CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}
_NO_STORE: Final = (b"cache-control", b"no-store")


class Refusal(NamedTuple):
    """The response to a request that is not allowed.

    Attributes:
        status: HTTP status code.
        what: what is wrong with the request.
        hint: what the user can do.
        headers: additional headers.
        asks_for_token: whether the page that shows it has a field for the token.
    """

    status: int
    what: str
    hint: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    asks_for_token: bool = False


class GuardResponse(NamedTuple):
    """A response of the guard: status code, headers and body."""

    status: int
    headers: Headers
    body: bytes = b""


def error_body(what: str, hint: str) -> dict[str, dict[str, str]]:
    """Return the JSON body of every error."""
    return {"error": {"what": what, "hint": hint}}


def protected(headers: Iterable[tuple[bytes, bytes]], *, stored: bool) -> Headers:
    """Return headers of a response with the security headers, without any that lets other sites read it (CORS).

    Args:
        headers: headers that the application set.
        stored: whether browsers may cache the response.
    """
    given = [(name.lower(), value) for name, value in headers]
    kept = [
        (name, value)
        for name, value in given
        if name not in PROTECTION and not name.startswith(b"access-control-") and (stored or name != b"cache-control")
    ]
    return [*kept, *PROTECTION.items(), *([] if stored else [_NO_STORE])]


def refused(refusal: Refusal, *, page: bool) -> GuardResponse:
    """Return a refusal as JSON, or as an HTML page if a browser requested a page."""
    if page:
        kind, body = b"text/html; charset=utf-8", _page(refusal).encode()
    else:
        kind, body = b"application/json", json.dumps(error_body(refusal.what, refusal.hint)).encode()
    about = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    return GuardResponse(refusal.status, protected([*about, *refusal.headers], stored=False), body)


def sent_on(location: str, cookie: bytes | None) -> GuardResponse:
    """Return a redirect to another address of this server, which can set a cookie."""
    headers = [(b"location", location.encode()), (b"content-length", b"0")]
    if cookie is not None:
        headers.append((b"set-cookie", cookie))
    return GuardResponse(303, protected(headers, stored=False))


_FIELD = """
<form action="/"><label>Token <input name="token" type="password" autocomplete="off" required autofocus></label>
<button>Open</button></form>"""


def _page(refusal: Refusal) -> str:
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Ashwood</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui; max-width: 40rem; margin: 4rem auto }}
</style>
<main>
<h1>{escape(refusal.what)}</h1>
<p>{escape(refusal.hint)}</p>{_FIELD if refusal.asks_for_token else ""}
</main>
</html>
"""
