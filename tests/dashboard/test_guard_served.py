"""The guard on a real server: what only a socket shows."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import httpx2 as httpx
import pytest
from starlette.types import Receive, Scope, Send

from ashwood.dashboard.guard import GuardRules, rules_for
from tests.dashboard.serving import served
from tests.dashboard.test_guard import application, assert_error, assert_protected
from tests.dashboard.test_guard_checks import TOKEN


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, int]]:
    with served(application(), rules_for("127.0.0.1", 1, token=TOKEN)) as place:
        yield place


def spoken(place: tuple[str, int], request: bytes) -> tuple[int, str]:
    """Send these bytes, and read until the server hangs up."""
    with socket.create_connection(place, timeout=30) as sock:
        sock.sendall(request)
        answer = b""
        while chunk := sock.recv(1 << 16):
            answer += chunk
    return int(answer.split()[1]), answer.decode("latin-1")


KNOWN = b"Host: 127.0.0.1\r\nAuthorization: Bearer %s\r\n" % TOKEN.encode()
TWO_HOSTS = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"


def test_the_token_is_in_no_log(place: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    address = f"http://127.0.0.1:{place[1]}"
    with httpx.Client() as client:
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # this side's log
        logging.getLogger("httpcore2").setLevel(logging.WARNING)
        assert client.get(f"{address}/?token={TOKEN}").status_code == 303
        assert client.get(f"{address}/").text == "a page"
        client.get(f"{address}/api/v1/experiments", params={"token": TOKEN})
        client.get(f"{address}/", params={"token": TOKEN + "x"})
    assert '"GET / HTTP/1.1" 303' in caplog.text
    assert TOKEN not in caplog.text


def test_endless_chunks_are_cut_off(place: tuple[str, int]) -> None:
    head = (
        b"POST /api/v1/preview HTTP/1.1\r\n%sContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        % KNOWN
    )
    with socket.create_connection(place, timeout=30) as sock:
        sock.sendall(head)
        with suppress(ConnectionError):
            while True:
                sock.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def test_expect_continue_with_large_body_is_refused(place: tuple[str, int]) -> None:
    """As curl does."""
    head = b"POST /api/v1/preview HTTP/1.1\r\n%sContent-Type: application/json\r\nExpect: 100-continue\r\n" % KNOWN
    status, answer = spoken(place, head + b"Content-Length: 99999999999999\r\n\r\n")
    assert status == 413
    assert answer.count("HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + KNOWN + CLOSE, 200),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\n" + KNOWN + CLOSE, 404),
        (b"GET / HTTP/1.1\r\n" + KNOWN + b"Origin: http://evil.example\xff\r\n" + CLOSE, 403),
        (b"GET / HTTP/1.1\r\n" + KNOWN + b"Cookie: " + b"a=b; " * 8000 + b"\r\n" + CLOSE, 431),
        (b"GET /?" + b"q" * 9000 + b" HTTP/1.1\r\n" + KNOWN + CLOSE, 414),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: ashwood_1=\xff\xfe\r\n" + CLOSE, 401),
        (b"GET //evil.example/?token=" + TOKEN.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + CLOSE, 303),
        (b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n" + CLOSE, 421),
        (b"GET / HTTP/1.1\r\n" + KNOWN + b"Upgrade: websocket\r\n" + CLOSE, 200),
    ],
)
def test_malformed_requests_get_an_error(place: tuple[str, int], request_: bytes, status: int) -> None:
    got, answer = spoken(place, request_)
    assert got == status
    assert "content-security-policy: " in answer
    assert "evil" not in answer or status in (303, 421)
    assert "location: /evil.example/\r\n" in answer or status != 303


def test_requests_that_the_server_refuses_do_not_reach_the_application(place: tuple[str, int]) -> None:
    for broken in (
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
        b"GET /\r\n\r\n" + b"\xff" * 9,
        TWO_HOSTS,
    ):
        assert spoken(place, broken)[0] == 400


def test_stream_ends_when_the_client_disconnects() -> None:
    noticed = threading.Event()

    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        noticed.set()

    with served(live, GuardRules(streams=1)) as (host, port), httpx.Client(base_url=f"http://{host}:{port}") as client:
        with client.stream("GET", "/api/v1/live", timeout=30) as answer:
            assert_protected(answer)
            lines = answer.iter_lines()
            assert next(lines) == "data: 1"
            assert_error(client.get("/api/v1/live"), 503)
        assert noticed.wait(30)
