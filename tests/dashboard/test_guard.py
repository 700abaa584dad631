"""The guard around an application: what gets through, what is answered, and what flows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from anyio.abc import TaskGroup
from fastapi import Body, FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from ashwood.dashboard.guard import Guard, GuardRules, rules_for
from ashwood.dashboard.guard.responses import PROTECTION
from tests.dashboard.test_guard_checks import TOKEN, Clock

JSON = {"content-type": "application/json"}
PAGE = {"accept": "text/html,*/*"}


def application() -> FastAPI:
    """What the dashboard is like, to a guard."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    @app.get("/experiments/{number}")
    def page() -> PlainTextResponse:
        return PlainTextResponse("a page", headers={"cache-control": "max-age=60"})

    @app.get("/api/v1/experiments")
    def experiments() -> JSONResponse:
        return JSONResponse([], headers={"access-control-allow-origin": "*", "cache-control": "max-age=60"})

    @app.post("/api/v1/experiments/{number}/pause")
    @app.post("/api/v1/preview")
    def change(body: Any = Body(None)) -> JSONResponse:  # noqa: B008  FastAPI's way
        return JSONResponse({"got": body})

    @app.get("/api/v1/fails")
    def fails() -> None:
        raise RuntimeError("a bug")

    @app.get("/api/v1/live")
    def live() -> StreamingResponse:
        return StreamingResponse(iter([b"data: 1\n\n"]), media_type="text/event-stream")

    return app


class Browser:
    """Sends requests to a guarded application, and keeps cookies as browsers do."""

    def __init__(self, rules: GuardRules, clock: Clock | None = None, app: Any = None) -> None:
        self.clock = clock or Clock()
        self.guard = Guard(app or application(), rules, self.clock)
        self.cookies = httpx.Cookies()

    def __call__(
        self,
        method: str,
        url: str,
        headers: Any = (),
        content: bytes | AsyncIterator[bytes] | None = None,
        client: str = "127.0.0.1",
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.guard, raise_app_exceptions=False, client=(client, 1))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8000", cookies=self.cookies
            ) as browser:
                answer = await browser.request(method, url, headers=headers, content=content)
                self.cookies.update(browser.cookies)
                return answer

        answer = anyio.run(send)
        assert_protected(answer)
        return answer


def assert_protected(answer: httpx.Response) -> None:
    for name, value in PROTECTION.items():
        assert answer.headers.get_list(name.decode()) == [value.decode()]
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def assert_error(answer: httpx.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
    (name,) = answer.json()
    error: dict[str, str] = answer.json()[name]
    assert (name, set(error)) == ("error", {"what", "hint"})
    assert all(error.values())
    return error


@pytest.fixture
def browse() -> Browser:
    return Browser(rules_for("127.0.0.1", 8000))


def test_allowed_requests_reach_the_application(browse: Browser) -> None:
    answer = browse("GET", "/")
    assert (answer.text, answer.headers["cache-control"]) == ("a page", "max-age=60")
    answer = browse("GET", "/api/v1/experiments")
    assert (answer.json(), answer.headers["cache-control"]) == ([], "no-store")
    answer = browse("POST", "/api/v1/experiments/1/pause", JSON, b'{"a": 1}')
    assert answer.json() == {"got": {"a": 1}}
    assert browse("POST", "/api/v1/experiments/1/pause").json() == {"got": None}


def test_error_responses_have_security_headers(browse: Browser) -> None:
    assert browse("GET", "/nowhere").status_code == 404
    assert browse("PUT", "/").status_code == 405
    assert browse("GET", "/api/v1/fails").status_code == 500


def test_exception_of_application_becomes_status_500_and_is_raised() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    assert_error(Browser(rules_for("127.0.0.1", 1), app=broken)("GET", "/api/v1"), 500)
    with pytest.raises(RuntimeError, match="a bug"):
        talk(Guard(broken, GuardRules()), [])


def test_other_hosts_and_sites_are_refused(browse: Browser) -> None:
    assert "evil.example" in assert_error(browse("GET", "/", {"host": "evil.example"}), 421)["what"]
    for method in ("POST", "GET", "OPTIONS"):
        assert_error(browse(method, "/api/v1/experiments", {"origin": "http://evil.example"}), 403)
        assert_error(browse(method, "/api/v1/experiments", {"sec-fetch-site": "cross-site"}), 403)


def test_refused_page_is_an_html_page(browse: Browser) -> None:
    answer = browse("GET", "/", {"host": "evil.example", **PAGE})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "evil.example" in answer.text
    assert_error(browse("GET", "/api/v1/experiments", {"host": "evil.example", **PAGE}), 421)


def test_bytes_that_are_not_text_are_refused(browse: Browser) -> None:
    for name in (
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"content-length",
        b"content-type",
        b"authorization",
        b"cookie",
    ):
        headers = [(b"host", b"127.0.0.1"), *JSON_BYTES] if name != b"host" else JSON_BYTES
        for value in (b"\xff\xfe", b"\x80" * 2000, b"\x00", b"", "ä€".encode()):
            talk(browse.guard, [b"{}"], headers=[(name, value), *headers])


JSON_BYTES = [(b"content-type", b"application/json")]


# Tokens


@pytest.fixture
def asked() -> Browser:
    return Browser(rules_for("0.0.0.0", 8000, token=TOKEN))


def test_without_a_token_nothing_is_shown(asked: Browser) -> None:
    for url in ("/", "/nowhere", "/api/v1/experiments", f"/api/v1/experiments?token={TOKEN}"):
        answer = asked("GET", url)
        assert_error(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="ashwood"'
    assert_error(asked("POST", f"/?token={TOKEN}"), 401)
    answer = asked("GET", "/", PAGE)
    assert answer.status_code == 401
    assert "ashwood ui" in answer.text
    assert 'name="token"' in answer.text


def test_token_in_header_is_accepted(asked: Browser) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert asked("GET", "/api/v1/experiments", headers).status_code == 200
    assert asked("POST", "/api/v1/experiments/1/pause", headers).status_code == 200
    assert_error(asked("GET", "/api/v1/experiments", {"authorization": f"Bearer {TOKEN}x"}), 401)
    assert_error(asked("GET", "/api/v1/experiments", {"authorization": "Bearer \xff".encode("latin-1")}), 401)
    assert_error(asked("POST", "/api/v1/experiments/1/pause", headers | {"origin": "http://evil.example"}), 403)


def test_token_in_address_sets_a_cookie(asked: Browser) -> None:
    answer = asked("GET", f"/experiments/7?token={TOKEN}&best=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/experiments/7?best=1")
    assert TOKEN not in answer.headers["set-cookie"]
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert asked("GET", "/experiments/7?best=1").text == "a page"
    assert asked("POST", "/api/v1/experiments/1/pause").status_code == 200
    again = asked("GET", "/?token=one-of-yesterday")
    assert (again.status_code, again.headers["location"], "set-cookie" in again.headers) == (303, "/", False)


def test_cookie_is_valid_for_one_run_of_the_server(asked: Browser) -> None:
    asked("GET", f"/?token={TOKEN}")
    later = Browser(rules_for("0.0.0.0", 8000, token=TOKEN))
    later.cookies = asked.cookies
    for _ in range(30):  # a page that was left open isn't somebody who guesses
        assert_error(later("GET", "/api/v1/experiments"), 401)
    assert later("GET", f"/?token={TOKEN}").status_code == 303


def test_rate_of_wrong_tokens_is_limited_but_the_right_one_is_accepted(asked: Browser) -> None:
    known = Browser(GuardRules())
    known.guard = asked.guard
    known("GET", f"/?token={TOKEN}")
    for n in range(10):
        bearer = {"authorization": f"Bearer guess-{n}"}
        url = f"/?token=guess-{n}"
        assert_error(asked("GET", url) if n % 2 else asked("GET", "/api/v1/experiments", bearer), 401)
    wrong = {"authorization": "Bearer guess-10"}
    answer = asked("GET", "/api/v1/experiments", wrong)
    assert_error(answer, 429)
    assert answer.headers["retry-after"] == "6"
    assert_error(asked("GET", "/?token=guess-11"), 429)
    assert_error(asked("GET", "/"), 401)
    assert known("GET", "/").status_code == 200
    assert_error(asked("GET", "/api/v1/experiments", wrong, client="10.0.0.9"), 401)
    right = {"authorization": f"Bearer {TOKEN}"}
    assert asked("GET", "/api/v1/experiments", right).status_code == 200
    asked.clock.now += 7
    assert_error(asked("GET", "/api/v1/experiments", wrong), 401)
    assert_error(asked("GET", "/api/v1/experiments", wrong), 429)
    assert asked("GET", f"/?token={TOKEN}").status_code == 303


def test_token_is_in_no_response_and_in_no_logged_address(asked: Browser) -> None:
    scopes = [
        talk(asked.guard, [], method=method, path=path, query=query)[0]
        for method in ("GET", "HEAD", "POST")
        for path in ("/", "/api/v1/experiments")
        for query in (f"token={TOKEN}", f"a=1&t%6Fken={TOKEN}", f"token={TOKEN}&token={TOKEN}", f"token={TOKEN}x")
    ]
    assert all(TOKEN.encode() not in scope["query_string"] for scope in scopes)
    for url in (f"/?token={TOKEN}x", f"/api/v1/experiments?token={TOKEN}", f"/?token={TOKEN}"):
        answer = asked("GET", url, PAGE)
        assert TOKEN not in answer.text + str(answer.headers)


# Limits


def test_read_only_refuses_changes(browse: Browser) -> None:
    browse = Browser(rules_for("127.0.0.1", 8000, read_only=True))
    assert "nothing can be changed" in assert_error(browse("POST", "/api/v1/experiments/1/pause"), 403)["what"]
    assert browse("POST", "/api/v1/preview", JSON, b"1").json() == {"got": 1}
    assert browse("GET", "/api/v1/experiments").status_code == 200


def test_size_of_bodies_is_limited(browse: Browser) -> None:
    url = "/api/v1/preview"
    assert_error(browse("POST", url, JSON, b'"' + b"x" * (1 << 20) + b'"'), 413)
    assert_error(browse("POST", url, {"content-length": "9" * 5000, **JSON}, b"{}"), 413)
    assert_error(browse("POST", url, {"content-length": "nine", **JSON}, b"{}"), 400)
    assert_error(browse("POST", url, {"content-type": "text/plain"}, b"{}"), 415)
    assert_error(browse("POST", url, {}, b"{}"), 415)


def test_size_of_chunked_bodies_is_limited(browse: Browser) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    assert_error(browse("POST", "/api/v1/preview", JSON, endless()), 413)
    assert sent == (1 << 20) + (1 << 16)


def test_unannounced_body_is_checked(browse: Browser) -> None:
    """HTTP/2 needs neither length nor chunks."""
    host = [(b"host", b"127.0.0.1")]
    assert said(talk(browse.guard, [b"{}"], path="/api/v1/preview", method="POST", headers=host))[0] == 415
    assert (
        said(talk(browse.guard, [b"{}"], path="/api/v1/preview", method="POST", headers=[*host, *JSON_BYTES]))[0] == 200
    )


def test_body_that_grows_too_large_after_the_response_has_started_ends_it() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while (message := await receive())["type"] == "http.request":
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
        await send({"type": "http.response.body", "body": b"all of it"})

    _, messages = talk(Guard(echo, GuardRules(max_body=4)), [b"12", b"34", b"56", b"78"])
    assert [message.get("body") for message in messages] == [None, b"12", b"34"]


def test_rate_of_changes_is_limited(browse: Browser) -> None:
    url = "/api/v1/experiments/1/pause"
    assert {browse("POST", url).status_code for _ in range(40)} == {200}
    answer = browse("POST", url)
    assert_error(answer, 429)
    assert answer.headers["retry-after"] == "1"
    assert browse("POST", url, client="10.0.0.9").status_code == 200
    assert browse("GET", "/").status_code == 200
    browse.clock.now += 1
    assert [browse("POST", url).status_code for _ in range(21)] == [200] * 20 + [429]


def test_websockets_are_refused(browse: Browser) -> None:
    _, messages = talk(browse.guard, [], kind="websocket")
    assert messages == [{"type": "websocket.close", "code": 1008}]


def test_lifespan_events_reach_the_application() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    talk(Guard(app, GuardRules()), [], kind="lifespan")
    assert seen == ["lifespan"]


# What flows


class Live:
    """An application that follows until its client goes; it says what happened to it."""

    def __init__(self) -> None:
        self.following = 0
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.following += 1
        try:
            headers = [(b"Content-Type", b"Text/Event-Stream; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            self.sent += 1
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.following -= 1


def test_number_of_streams_is_limited() -> None:
    live = Live()
    guard = Guard(live, GuardRules(streams=3, streams_each=2))
    answers: list[list[Message]] = []

    async def follow(group: TaskGroup, client: str, until: anyio.Event) -> None:
        messages: list[Message] = []
        answers.append(messages)
        came = anyio.Event()

        async def receive() -> Message:
            await until.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            messages.append(message)
            if message["type"] == "http.response.body":
                came.set()

        group.start_soon(guard, scope_of(client=client), receive, send)
        await came.wait()  # nothing is held back until the application ends

    async def play() -> list[int]:
        first, rest = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as group:
            await follow(group, "a", first)
            for client in "aabc":
                await follow(group, client, rest)
            await anyio.wait_all_tasks_blocked()
            assert (live.following, live.sent) == (3, 3)
            first.set()
            await anyio.wait_all_tasks_blocked()
            assert live.following == 2
            await follow(group, "a", rest)
            rest.set()
        return [messages[0]["status"] for messages in answers]

    assert anyio.run(play) == [200, 200, 503, 200, 503, 200]
    assert live.following == 0
    assert not guard._streams._taken


def test_broken_streams_release_their_slots() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        raise RuntimeError("a bug")

    guard = Guard(breaks, GuardRules(streams=1))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a bug"):
            talk(guard, [])


def test_stream_without_a_slot_ends_at_once() -> None:
    browse = Browser(GuardRules(streams=0))
    answer = browse("GET", "/api/v1/live")
    assert_error(answer, 503)
    assert answer.headers["retry-after"] == "10"


def scope_of(
    kind: str = "http",
    method: str = "GET",
    path: str = "/",
    query: str = "",
    headers: list[tuple[bytes, bytes]] | None = None,
    client: str = "127.0.0.1",
) -> Scope:
    headers = [(b"host", b"127.0.0.1")] if headers is None else headers
    query_string = query.encode()
    return {
        "type": kind, "method": method, "path": path, "query_string": query_string, "headers": headers,
        "scheme": "http", "client": (client, 1), "http_version": "2", "root_path": "",
    }  # fmt: skip


def talk(
    guard: Callable[[Scope, Receive, Send], Awaitable[None]], chunks: list[bytes], **about: Any
) -> tuple[Scope, list[Message]]:
    """Send a request in these chunks; its scope afterwards, and all that was answered."""
    scope, messages = scope_of(**about), list[Message]()
    came: Iterator[Message] = iter(
        [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        + [{"type": "http.request", "body": b"", "more_body": False}]
    )

    async def receive() -> Message:
        return next(came, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        messages.append(message)

    async def play() -> None:
        await guard(scope, receive, send)

    anyio.run(play)
    return scope, messages


def said(talked: tuple[Scope, list[Message]]) -> tuple[int, Any]:
    first, *rest = talked[1]
    return first["status"], json.loads(b"".join(message["body"] for message in rest))
