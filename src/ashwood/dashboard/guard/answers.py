"""Answers that the guard gives by itself, and the headers of every answer: pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Final, NamedTuple

Headers = list[tuple[bytes, bytes]]

# Plotly sets styles on elements.  Whoever wants `script-src 'unsafe-eval'` for its gl3d charts gets other charts.
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
    """A request that isn't let through.

    Attributes:
        status: of HTTP.
        what: what was wrong.
        hint: what to do.
        headers: further headers.
        asks_for_token: a page that says so offers a field for it.
    """

    status: int
    what: str
    hint: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    asks_for_token: bool = False


class Answer(NamedTuple):
    """What is sent."""

    status: int
    headers: Headers
    body: bytes = b""


def error_body(what: str, hint: str) -> dict[str, dict[str, str]]:
    """The one shape of errors."""
    return {"error": {"what": what, "hint": hint}}


def protected(headers: Iterable[tuple[bytes, bytes]], *, stored: bool) -> Headers:
    """Headers of an answer with those that protect; never one that lets other sites read it.

    Args:
        headers: what the answer came with.
        stored: whether browsers may keep it.
    """
    given = [(name.lower(), value) for name, value in headers]
    kept = [
        (name, value)
        for name, value in given
        if name not in PROTECTION and not name.startswith(b"access-control-") and (stored or name != b"cache-control")
    ]
    return [*kept, *PROTECTION.items(), *([] if stored else [_NO_STORE])]


def refused(refusal: Refusal, *, page: bool) -> Answer:
    """A refusal as JSON, or as a page for who opened one in a browser."""
    if page:
        kind, body = b"text/html; charset=utf-8", _page(refusal).encode()
    else:
        kind, body = b"application/json", json.dumps(error_body(refusal.what, refusal.hint)).encode()
    about = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    return Answer(refusal.status, protected([*about, *refusal.headers], stored=False), body)


def sent_on(location: str, cookie: bytes | None) -> Answer:
    """On to another address of this server, with a cookie."""
    headers = [(b"location", location.encode()), (b"content-length", b"0")]
    if cookie is not None:
        headers.append((b"set-cookie", cookie))
    return Answer(303, protected(headers, stored=False))


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
