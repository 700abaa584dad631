"""What the guard decides about a request, by its method, address and headers alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ashwood.dashboard.guard import GuardRules, bare, is_everywhere, rules_for, tokens
from ashwood.dashboard.guard.checks import forbidden, misdirected
from ashwood.dashboard.guard.hosts import is_loopback
from ashwood.dashboard.guard.rates import StreamSlots, TokenBuckets
from ashwood.dashboard.guard.request import HttpRequest
from ashwood.dashboard.guard.responses import PROTECTION, Refusal, protected, refused
from ashwood.dashboard.server import listen
from ashwood.errors import AshwoodError

RULES = rules_for("127.0.0.1", 8000)
EVERYWHERE = ("0.0.0.0", "::", "", "*", "0", "0x0", "0.0", "00.0.0", "::0", "0:0::0", "[::]")
TOKEN = "a-token-of-this-test"  # no secret
CHANGES = st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "TRACE", "post", "X"])
METHODS = CHANGES | st.sampled_from(["GET", "HEAD", "OPTIONS"])
NAMES = st.sampled_from(
    b"Host host Origin origin Sec-Fetch-Site Sec-Fetch-Mode Sec-Fetch-Dest Referer Content-Type Content-Length "
    b"Transfer-Encoding Cookie Authorization X-Forwarded-Host X-HTTP-Method-Override".split()
)
SITES = b"127.0.0.1:8000 http://127.0.0.1:8000 https://127.0.0.1:8000 evil.example http://evil.example null".split()
KINDS = b"same-origin none same-site cross-site navigate document application/json chunked 0 -1".split()
ODD = [b"", b"9" * 5000, b"Bearer", b"Bearer \xff", b"ashwood_8000=\xff; ;=;", b"\xff\x00"]
VALUES = st.sampled_from([*SITES, *KINDS, *ODD])
PIECES = [
    b"127.0.0.1",
    b"localhost",
    b"::1",
    b"[",
    b"]",
    b":",
    b"8000",
    b".",
    b"@",
    b"evil",
    b" ",
    b"\n",
    b"/",
    b"%00",
    b"\0",
]
HOSTS = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)
HEADERS = st.lists(st.tuples(NAMES, VALUES | st.binary(max_size=40)), max_size=8)


def request(method: str = "GET", path: str = "/", query: str = "", **headers: str) -> HttpRequest:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return asked(method, path, [(b"host", b"127.0.0.1:8000"), *given], query.encode())


def asked(method: str, path: str, headers: list[tuple[bytes, bytes]], query: bytes = b"") -> HttpRequest:
    return HttpRequest.of({"method": method, "path": path, "query_string": query, "scheme": "http", "headers": headers})


def status(refusal: Refusal | None) -> int:
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8000", 200),
        ("127.0.0.1", 200),
        ("localhost:9", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("[0:0::1]", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("127.0.0.2", 421),
        ("0.0.0.0:8000", 421),
        ("2130706433", 421),
        ("[::ffff:127.0.0.1]", 421),
        ("evil.example@127.0.0.1", 400),
        ("127.0.0.1:8000\n", 200),  # the spaces around a header's value aren't part of it
        ("127.0.0.1:port", 400),
        ("::1", 400),
        ("[127.0.0.1", 400),
        ("[127.0.0.1]", 400),
        ("[1.2.3:4]", 400),
        ("127.0.0.1, evil.example", 400),
        ("", 400),
    ],
)
def test_host_header_is_checked(host: str, expected: int) -> None:
    assert status(misdirected(asked("GET", "/", [(b"host", host.encode())]), RULES)) == expected


def test_exactly_one_host_header_is_required() -> None:
    assert status(misdirected(asked("GET", "/", []), RULES)) == 400
    assert status(misdirected(asked("GET", "/", [(b"host", b"localhost"), (b"Host", b"localhost")]), RULES)) == 400


def test_allowed_hosts_are_accepted() -> None:
    def answers(rules: GuardRules, host: bytes) -> bool:
        return misdirected(asked("GET", "/", [(b"host", host)]), rules) is None

    named = rules_for("10.0.0.7", 80, allowed_hosts=["Node7.example", "fe80::7", "[fe80::8]", "box:80"])
    for host in (b"10.0.0.7", b"node7.EXAMPLE:8443", b"[fe80::7]:80", b"[FE80:0::8]", b"box", b"localhost:3000"):
        assert answers(named, host)
    assert not answers(named, b"10.0.0.8")
    for everywhere in EVERYWHERE:
        anywhere = rules_for(everywhere, 80)
        assert answers(anywhere, b"192.168.1.5:80")
        assert answers(anywhere, b"[2001:db8::1]")
        assert not answers(anywhere, b"node7.example")


@given(host=st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | HOSTS, headers=HEADERS, method=METHODS)
@example(host=b"localhost.", headers=[], method="GET")
@example(host="１２７.0.0.1".encode(), headers=[], method="GET")
def test_only_allowed_hosts_pass(host: bytes, headers: list[tuple[bytes, bytes]], method: str) -> None:
    others = [header for header in headers if header[0].lower() != b"host"]
    if misdirected(asked(method, "/", [(b"Host", host), *others]), RULES) is None:
        name, colon, port = host.strip().removeprefix(b"[").replace(b"::1]", b"localhost").partition(b":")
        assert name.lower() in (b"127.0.0.1", b"localhost")
        assert port.isdigit() if colon else not port


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),  # curl
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-origin"}, 200),
        ({"origin": "HTTP://127.0.0.1:8000", "sec_fetch_site": "none"}, 200),
        ({"origin": "https://127.0.0.1:8000", "sec_fetch_site": "same-origin"}, 200),  # a proxy that ends TLS
        ({"origin": "null", "sec_fetch_site": "same-origin"}, 200),  # a form, and no referrers
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "https://127.0.0.1:8000"}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "http://127.0.0.1:8000.evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1:8000", "sec_fetch_site": "cross-site"}, 403),
        ({"origin": "http://evil.example", "sec_fetch_site": "same-origin"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": ""}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, 403),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "GET", "OPTIONS"])
def test_the_api_is_for_our_own_pages_and_programs(method: str, headers: dict[str, str], expected: int) -> None:
    assert status(misdirected(request(method, "/api/v1/experiments", **headers), RULES)) == expected


@pytest.mark.parametrize("name", [b"origin", b"sec-fetch-site"])
def test_contradictory_headers_are_refused(name: bytes) -> None:
    said = {b"origin": b"http://127.0.0.1:8000", b"sec-fetch-site": b"same-origin"}[name]
    twice = [(b"host", b"127.0.0.1:8000"), (name, said)]
    assert misdirected(asked("POST", "/api/v1", twice), RULES) is None
    assert status(misdirected(asked("POST", "/api/v1", [*twice, (name, said)]), RULES)) == 403


LINK = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


@pytest.mark.parametrize("path", ["/", "/experiments/7", "/apis"])
def test_other_sites_may_link_to_pages_and_no_more(path: str) -> None:
    assert misdirected(request("GET", path, **LINK), RULES) is None
    for other in ({"sec_fetch_dest": "iframe"}, {"sec_fetch_mode": "no-cors"}, {"origin": "http://evil.example"}):
        assert status(misdirected(request("GET", path, **LINK | other), RULES)) == 403
    assert status(misdirected(request("POST", path, **LINK), RULES)) == 403


@given(method=CHANGES, headers=HEADERS, path=st.sampled_from(["/", "/api/v1/experiments/1/kill", "//api"]))
def test_no_headers_allow_a_foreign_change(method: str, headers: list[tuple[bytes, bytes]], path: str) -> None:
    """A page can't take back what its browser says of where it comes from; here it even adds to it what it likes."""
    for said in ((b"Origin", b"http://evil.example"), (b"Sec-Fetch-Site", b"cross-site"), (b"origin", b"null")):
        others = [header for header in headers if header[0].lower() != b"sec-fetch-site"]
        assert misdirected(asked(method, path, [(b"host", b"127.0.0.1:8000"), said, *others]), RULES) is not None


@given(method=METHODS, headers=HEADERS, path=st.text(max_size=20), query=st.binary(max_size=60))
def test_no_request_breaks_the_guard(method: str, headers: list[tuple[bytes, bytes]], path: str, query: bytes) -> None:
    came = asked(method, path, headers, query)
    for refusal in (misdirected(came, RULES), forbidden(came, RULES)):
        for page in (True, False):
            assert refusal is None or 400 <= refused(refusal, page=page).status < 500
    assert tokens.shown_token(came) is None or not tokens.is_secret(tokens.shown_token(came) or b"", TOKEN)
    assert not tokens.has_pass(came, RULES, "pass")


def test_addresses_and_headers_have_limits() -> None:
    assert status(misdirected(request(query="q" * 9000), RULES)) == 414
    assert status(misdirected(request(path="/" + "p" * 9000), RULES)) == 414
    assert status(misdirected(request(cookie="a=b; " * 9000), RULES)) == 431
    many = [(b"host", b"localhost"), *[(b"cookie", b"a=%d" % n) for n in range(5000)]]
    assert status(misdirected(asked("GET", "/", many), RULES)) == 431


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"content_length": "0"}, 200),
        ({"content_length": "2", "content_type": "application/json"}, 200),
        ({"content_length": "2", "content_type": "Application/JSON; charset=utf-8"}, 200),
        ({"content_length": "1048576", "content_type": "application/json"}, 200),
        ({"content_length": "1048577", "content_type": "application/json"}, 413),
        ({"content_length": "9" * 5000, "content_type": "application/json"}, 413),
        ({"content_length": "-1"}, 400),
        ({"content_length": "1e3"}, 400),
        ({"content_length": ""}, 400),
        ({"content_length": "2"}, 415),
        ({"content_length": "2", "content_type": "text/plain"}, 415),
        ({"content_length": "2", "content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_length": "2", "content_type": "text/plain; application/json"}, 415),
        ({"transfer_encoding": "chunked"}, 415),
        ({"transfer_encoding": "chunked", "content_type": "application/json"}, 200),
    ],
)
def test_content_type_and_length_are_checked(headers: dict[str, str], expected: int) -> None:
    assert status(forbidden(request("POST", "/api/v1/experiments/1/pause", **headers), RULES)) == expected


def test_read_only_refuses_every_change() -> None:
    rules = rules_for("127.0.0.1", 8000, read_only=True)
    for method in ("GET", "HEAD", "OPTIONS"):
        assert forbidden(request(method, "/api/v1/experiments"), rules) is None
    assert forbidden(request("POST", "/api/v1/preview"), rules) is None
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE"):
        assert status(forbidden(request(method, "/api/v1/experiments/1/pause"), rules)) == 403
    for method, path in [("PUT", "/api/v1/preview"), ("POST", "/api/v1/preview/"), ("POST", "/api/v1/preview/x")]:
        assert status(forbidden(request(method, path), rules)) == 403


def test_token_is_required_beyond_loopback() -> None:
    assert rules_for("127.0.0.1", 1).token is None
    assert rules_for("::1", 1).token is None
    assert rules_for("localhost", 1).token is None
    made = {rules_for(host, 1).token for host in ("0.0.0.0", "::", "", "10.0.0.7", "node7")}
    assert len(made) == 5
    assert all(token is not None and len(token) == 43 for token in made)
    assert rules_for("127.0.0.1", 1, with_token=True).token is not None
    assert rules_for("0.0.0.0", 1, token=TOKEN).token == TOKEN
    assert TOKEN not in repr(rules_for("0.0.0.0", 1, token=TOKEN))


@pytest.mark.parametrize("token", ["", "short", "with spaces in it, and signs", "a" * 20 + "\n", "ä" * 20])
def test_unusable_tokens_are_refused(token: str) -> None:
    with pytest.raises(ValueError, match="at least 16 characters") as refusal:
        GuardRules(token=token)
    assert not token or token not in str(refusal.value)


@pytest.mark.parametrize("host", EVERYWHERE)
def test_every_spelling_of_all_addresses_is_recognised(host: str) -> None:
    bound = bare(host)
    assert is_everywhere(bound)
    assert rules_for(host, 1).token is not None
    try:
        listening = listen(bound, 0, or_next=False)
    except AshwoodError:
        pytest.skip("this machine can't listen there")
    with listening:
        assert is_everywhere(listening.getsockname()[0])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.0", "::1", "[::1]", "localhost", "0.0.0.1", "1", "node0", "0.example", "ä\0"]
)
def test_one_address_is_not_everywhere(host: str) -> None:
    assert not is_everywhere(bare(host))
    assert not rules_for(host, 1).any_address


def test_loopback_addresses_are_recognised() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert rules_for("[::1]", 1).token is None
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "10.0.0.7", "localhost.evil.example")))


@pytest.mark.parametrize(
    ("authorization", "shown"),
    [
        ("Bearer abc", b"abc"),
        ("bearer  abc ", b"abc"),
        ("Bearer", None),
        ("Basic abc", None),
        ("Bearerabc", None),
    ],
)
def test_bearer_token_is_read(authorization: str, shown: bytes | None) -> None:
    assert tokens.shown_token(request(path="/api/v1", authorization=authorization)) == shown


def test_two_tokens_are_refused() -> None:
    twice = [(b"host", b"localhost"), (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")]
    assert tokens.shown_token(asked("GET", "/", twice)) == b""
    assert tokens.shown_token(request(query="token=a&token=b")) == b""


def test_token_in_address_is_accepted_for_pages_only() -> None:
    assert tokens.shown_token(request("GET", "/experiments/7", "a=1&token=abc")) == b"abc"
    assert tokens.shown_token(request("GET", "/api/v1/experiments", "token=abc")) is None
    assert tokens.shown_token(request("POST", "/", "token=abc")) is None


@given(path=st.text(max_size=30) | st.sampled_from(["//evil.example", "/\\evil.example", "/\\/evil.example/../"]))
def test_redirect_after_token_stays_on_this_server(path: str) -> None:
    address = tokens.without_token(request("GET", "/" + path, "token=abc&x=%0d%0a"))
    assert address.isascii()
    assert address.isprintable()
    assert address[0] == "/"
    assert address[1:2] not in ("/", "\\")
    assert "abc" not in address.rpartition("?")[2]


def test_token_is_removed_from_the_address() -> None:
    assert tokens.without_token(request("GET", "/", "token=abc")) == "/"
    assert tokens.without_token(request("GET", "/a b/ü", "q=%C3%BC&%74oken=abc&r")) == "/a%20b/%C3%BC?q=%C3%BC&r="


def test_cookies_of_two_servers_on_one_host_differ() -> None:
    cookies = [tokens.cookie_with_pass(request(), GuardRules(port=port), "pass") for port in (8000, 8001)]
    assert cookies[0] == b"ashwood_8000=pass; Path=/; HttpOnly; SameSite=Lax"
    both = "; ".join(cookie.partition(b";")[0].decode() for cookie in cookies)
    for port in (8000, 8001):
        assert tokens.has_pass(request(cookie=both), GuardRules(port=port), "pass")
        assert not tokens.has_pass(request(cookie=both), GuardRules(port=port), "other")
    assert not tokens.has_pass(request(cookie=both), GuardRules(port=80), "pass")
    secure = HttpRequest.of({"method": "GET", "path": "/", "scheme": "https", "headers": []})
    assert tokens.cookie_with_pass(secure, RULES, "pass").endswith(b"; Secure")


def test_every_response_has_security_headers() -> None:
    given: Any = [(b"X-Frame-Options", b"ALLOW"), (b"Access-Control-Allow-Origin", b"*"), (b"Cache-Control", b"public")]
    assert protected(given, stored=True) == [(b"cache-control", b"public"), *PROTECTION.items()]
    assert protected(given, stored=False) == [*PROTECTION.items(), (b"cache-control", b"no-store")]


def test_refusals_as_pages_are_escaped() -> None:
    page = refused(Refusal(400, "<script>", "a & b"), page=True)
    assert b"&lt;script&gt;" in page.body
    assert b"<script>" not in page.body
    assert b"a &amp; b" in page.body


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_buckets_are_refilled() -> None:
    clock = Clock()
    buckets = TokenBuckets(3, 6.0, clock)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 2, 2]
    assert buckets.wait("b") == 0
    clock.now += 2
    assert [buckets.take("a") for _ in range(2)] == [0, 2]
    clock.now += 100
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 10)), max_size=60))
def test_no_client_exceeds_its_bucket_and_rate(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    buckets = TokenBuckets(5, 10.0, clock)
    got = {"a": 0, "b": 0}
    for client, seconds in steps:
        clock.now += seconds
        got[client] += not buckets.take(client)
        assert got[client] <= 5 + (clock.now - 1000) / 2 + 1e-6


def test_memory_for_clients_is_bounded() -> None:
    clock = Clock()
    buckets = TokenBuckets(1, 60.0, clock)
    for n in range(10_000):
        buckets.take(str(n))
    assert len(buckets._left) == 4096
    assert buckets.wait("9999") == 60


def test_stream_slots_are_limited() -> None:
    places = StreamSlots(3, 2)
    assert [places.take("a") for _ in range(3)] == [True, True, False]
    assert [places.take("b") for _ in range(2)] == [True, False]
    places.release("a")
    assert places.take("b")
    assert not places.take("a")
