"""Decisions about single requests, by their method, address and headers; pure functions.

They protect against three dangers.  A page of another site in the same browser can send requests here, or make its own
host name point at this machine (DNS rebinding).  Other people on the network can reach the server.  Requests can be
too large.
"""

from __future__ import annotations

from typing import Final

from ashwood.dashboard.guard.hosts import LOOPBACK, host_name, is_address
from ashwood.dashboard.guard.request import HttpRequest
from ashwood.dashboard.guard.responses import Refusal
from ashwood.dashboard.guard.rules import GuardRules

_OWN: Final = frozenset({b"same-origin", b"none"})
_MOST_DIGITS = 18


def misdirected(request: HttpRequest, rules: GuardRules) -> Refusal | None:
    """Return a refusal if a request is too long, names another host or comes from another site, or None."""
    return _too_long(request, rules) or _other_host(request, rules) or _other_site(request)


def forbidden(request: HttpRequest, rules: GuardRules) -> Refusal | None:
    """Return a refusal if an authenticated request changes a read-only dashboard or has a bad body, or None."""
    return _change_when_read_only(request, rules) or _body(request, rules)


def _too_long(request: HttpRequest, rules: GuardRules) -> Refusal | None:
    if request.length > rules.max_url:
        return Refusal(414, "The address of this request is too long.", f"At most {rules.max_url} bytes are read.")
    if sum(len(name) + len(value) for name in request.headers for value in request.all(name)) > rules.max_headers:
        return Refusal(
            431,
            "The headers of this request are too long.",
            f"At most {rules.max_headers} bytes are read. Delete cookies of this address, if it is a browser.",
        )
    return None


def _other_host(request: HttpRequest, rules: GuardRules) -> Refusal | None:
    name = host_name(request.one(b"host") or b"")
    if name is None:
        return Refusal(400, "This request doesn't say for which host it is.", "Send exactly one Host header.")
    if name in LOOPBACK or name in rules.hosts or (rules.any_address and is_address(name)):
        return None
    return Refusal(
        421,
        f"This server isn't known as {name[:100]}.",
        f"Start it with `ashwood ui --allow-host {name[:100]}` if that is right. Otherwise another site may be "
        "trying to reach it through your browser.",
    )


def _other_site(request: HttpRequest) -> Refusal | None:
    if _is_own(request) or (request.reads and not request.is_api and _is_link(request)):
        return None
    return Refusal(
        403,
        "This request comes from a page of another site.",
        "Only the dashboard's own pages may send requests here; others may link to its pages.",
    )


def _is_own(request: HttpRequest) -> bool:
    """Return whether a request comes from a page of this server, or from no page at all."""
    sites, origins = request.all(b"sec-fetch-site"), request.all(b"origin")
    if len(sites) > 1 or len(origins) > 1 or not _OWN.issuperset(sites):
        return False
    return not origins or _is_own_origin(origins[0], request, vouched=b"same-origin" in sites)


def _is_own_origin(origin: bytes, request: HttpRequest, *, vouched: bool) -> bool:
    """Return whether an Origin header names this server.

    If ``vouched``, the browser has sent ``Sec-Fetch-Site: same-origin``, which pages cannot set.  Then the scheme may
    differ, because a proxy may have turned https into http.  The origin may also be ``null``, because our
    Referrer-Policy makes browsers hide it.
    """
    if origin == b"null":
        return vouched
    scheme, _, authority = origin.lower().partition(b"://")
    own_schemes = (b"http", b"https") if vouched else (request.scheme.encode(),)
    return scheme in own_schemes and authority == (request.one(b"host") or b"").lower()


def _is_link(request: HttpRequest) -> bool:
    return (
        request.one(b"sec-fetch-mode") == b"navigate"
        and request.one(b"sec-fetch-dest") == b"document"
        and not request.all(b"origin")
    )


def _change_when_read_only(request: HttpRequest, rules: GuardRules) -> Refusal | None:
    harmless = request.reads or (request.method == "POST" and request.path in rules.harmless_posts)
    if harmless or not rules.read_only:
        return None
    return Refusal(
        403, "This dashboard only shows: nothing can be changed here.", "Start `ashwood ui` without --read-only."
    )


def _body(request: HttpRequest, rules: GuardRules) -> Refusal | None:
    lengths = request.all(b"content-length")
    if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
        return Refusal(400, "This request's Content-Length isn't a number.", "Send one number, or none.")
    digits = lengths[0].lstrip(b"0") if lengths else b""
    if len(digits) > _MOST_DIGITS or int(digits or b"0") > rules.max_body:
        return too_large(rules)
    if not request.reads and (digits or request.all(b"transfer-encoding")):
        return not_json(request)
    return None


def not_json(request: HttpRequest) -> Refusal | None:
    """Return a refusal if the headers do not declare a JSON body, or None.

    Forms of other sites can only send bodies of other types.
    """
    kind = (request.one(b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind == b"application/json":
        return None
    return Refusal(415, "The body of this request isn't JSON.", "Send it with Content-Type: application/json.")


def too_large(rules: GuardRules) -> Refusal:
    """Return the refusal of a body over the limit; it closes the connection, so that the rest need not be read."""
    hint = f"At most {rules.max_body} bytes are read."
    return Refusal(413, "The body of this request is too large.", hint, ((b"connection", b"close"),))
