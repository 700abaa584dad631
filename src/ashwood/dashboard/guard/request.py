"""The parts of an HTTP request that the guard checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

Scope = Mapping[str, Any]

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class HttpRequest(NamedTuple):
    """The parts of an HTTP request that the guard checks.

    Attributes:
        method: HTTP method, in upper case.
        path: decoded path.
        query: undecoded query string.
        scheme: ``http`` or ``https``.
        length: length of the undecoded path and query, in bytes.
        headers: all values of each header, by its name in lower case.
    """

    method: str
    path: str
    query: bytes
    scheme: str
    length: int
    headers: Mapping[bytes, list[bytes]]

    @classmethod
    def of(cls, scope: Scope) -> HttpRequest:
        """Return the request of an ASGI scope."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.strip())
        path, query = scope["path"], scope.get("query_string", b"")
        length = len(scope.get("raw_path") or path.encode(errors="replace")) + len(query)
        return cls(scope["method"].upper(), path, query, scope.get("scheme", "http"), length, headers)

    def all(self, name: bytes) -> list[bytes]:
        """Return all values of a header."""
        return self.headers.get(name, [])

    def one(self, name: bytes) -> bytes | None:
        """Return the value of a header, or None if the request has none or several, which would be ambiguous."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None

    @property
    def reads(self) -> bool:
        """Whether the method of the request only reads."""
        return self.method in _READING

    @property
    def is_api(self) -> bool:
        """Whether the request is to the API, and not for a page."""
        return self.path == "/api" or self.path.startswith("/api/")

    @property
    def wants_page(self) -> bool:
        """Whether an error should be answered with an HTML page."""
        return self.opens_page and b"text/html" in b",".join(self.all(b"accept"))

    @property
    def opens_page(self) -> bool:
        """Whether the request is for a page, whose address may contain a token."""
        return self.method == "GET" and not self.is_api
