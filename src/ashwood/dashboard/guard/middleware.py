"""ASGI middleware that checks every request and adds headers to every response, without buffering any."""

from __future__ import annotations

import secrets
import time
from math import ceil

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ashwood.dashboard.guard import checks, tokens
from ashwood.dashboard.guard.rates import Clock, StreamSlots, TokenBuckets
from ashwood.dashboard.guard.request import HttpRequest
from ashwood.dashboard.guard.responses import GuardResponse, Refusal, protected, refused, sent_on
from ashwood.dashboard.guard.rules import GuardRules

_REFUSED_BY_POLICY = 1008


class Guard:
    """ASGI middleware that wraps the whole application, so that it also handles exceptions of the application."""

    def __init__(self, app: ASGIApp, rules: GuardRules, clock: Clock = time.monotonic) -> None:
        """Wrap an application; ``clock`` returns seconds."""
        self._app = app
        self._rules = rules
        self._pass = secrets.token_urlsafe(32)
        self._attempts = TokenBuckets(rules.attempts_per_minute, 60.0, clock)
        self._changes = TokenBuckets(2 * rules.changes_per_second, 2.0, clock)
        self._streams = StreamSlots(rules.streams, rules.streams_each)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _REFUSED_BY_POLICY})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest.of(scope)
        _hide_token(scope, request)
        client = _client(scope)
        exchange = _Exchange(request, self._rules, self._streams, client, receive, send)
        refusal = self._check(request, client)
        if refusal is not None:
            await exchange.answer(refusal)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            if exchange.refused:
                return
            if not exchange.started:
                await exchange.answer(Refusal(500, "Internal error in the dashboard.", "See the output of ashwood ui."))
            raise
        finally:
            exchange.end()

    def _check(self, request: HttpRequest, client: str) -> Refusal | GuardResponse | None:
        return (
            checks.misdirected(request, self._rules)
            or self._check_token(request, client)
            or checks.forbidden(request, self._rules)
            or self._check_rate(request, client)
        )

    def _check_token(self, request: HttpRequest, client: str) -> Refusal | GuardResponse | None:
        """Return a refusal if the token is missing or wrong, a redirect without it if it is in the address, or None."""
        if self._rules.token is None:
            return None
        shown = tokens.shown_token(request)
        in_address = request.opens_page and bool(tokens.tokens_in_address(request))
        if tokens.has_pass(request, self._rules, self._pass):
            return sent_on(tokens.without_token(request), None) if in_address else None
        if shown is None:
            return tokens.unknown()
        if not tokens.is_secret(shown, self._rules.token):
            # Only wrong tokens count towards the limit, and the right one is always accepted.  Many users, for example
            # all behind a proxy, can share an address, and a token is too long to be guessed.
            seconds = self._attempts.take(client)
            return _later(seconds, "Too many wrong tokens came from your address.") if seconds else tokens.wrong_token()
        if not in_address:
            return None
        return sent_on(tokens.without_token(request), tokens.cookie_with_pass(request, self._rules, self._pass))

    def _check_rate(self, request: HttpRequest, client: str) -> Refusal | None:
        seconds = 0.0 if request.reads else self._changes.take(client)
        return _later(seconds, "Too many requests came from your address.") if seconds else None


class _Gone(OSError):
    """Raised in the application when it sends more of a response that the guard has replaced."""


class _Exchange:
    """A request in progress and its response.

    Attributes:
        started: whether the headers of the response were sent.
        refused: whether the guard ended it with a refusal.
    """

    def __init__(
        self, request: HttpRequest, rules: GuardRules, streams: StreamSlots, client: str, receive: Receive, send: Send
    ) -> None:
        self.started = False
        self.refused = False
        self._request = request
        self._rules = rules
        self._streams = streams
        self._client = client
        self._receive = receive
        self._send = send
        self._bytes = 0
        self._streaming = False

    async def answer(self, answer: Refusal | GuardResponse) -> None:
        """Send a response in place of the application."""
        if isinstance(answer, Refusal):
            answer = refused(answer, page=self._request.wants_page)
        self.started = True
        await self._send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await self._send({"type": "http.response.body", "body": answer.body})

    async def receive(self) -> Message:
        """Return the next message from the client; a body that is too large or not JSON ends the request."""
        if self.refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("body"):
            return message
        self._bytes += len(message["body"])
        if self._bytes > self._rules.max_body:
            return await self._break_off(checks.too_large(self._rules))
        if not self._request.reads:
            refusal = checks.not_json(self._request)
            if refusal is not None:
                return await self._break_off(refusal)
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the application, with the security headers added to its headers."""
        if self.refused:
            raise _Gone
        if message["type"] == "http.response.start":
            if _is_stream(message):
                await self._take_slot()
            self.started = True
            headers = protected(message.get("headers", ()), stored=not self._request.is_api)
            message = {**message, "headers": headers}
        await self._send(message)

    def end(self) -> None:
        """Free the client's slot for a live stream, if it has one."""
        if self._streaming:
            self._streaming = False
            self._streams.release(self._client)

    async def _take_slot(self) -> None:
        self._streaming = self._streams.take(self._client)
        if not self._streaming:
            await self._break_off(
                Refusal(503, "Too many pages are following live.", "Close some.", ((b"retry-after", b"10"),))
            )
            raise _Gone

    async def _break_off(self, refusal: Refusal) -> Message:
        self.refused = True
        if not self.started:
            await self.answer(refusal)
        return {"type": "http.disconnect"}


def _later(seconds: float, what: str) -> Refusal:
    wait = ceil(seconds)
    return Refusal(429, what, f"Try again in {wait} s.", ((b"retry-after", str(wait).encode()),))


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "local"


def _hide_token(scope: Scope, request: HttpRequest) -> None:
    """Remove the token from the scope, because servers log the address from it."""
    if tokens.tokens_in_address(request):
        scope["query_string"] = tokens.query_without_token(request)


def _is_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )
