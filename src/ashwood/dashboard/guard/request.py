"""A request, as far as its verdicts need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

Scope = Mapping[str, Any]

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Request(NamedTuple):
    """What decisions look at.

    Attributes:
        method: in capitals.
        path: decoded.
        query: as it came.
        scheme: ``http`` or ``https``.
        length: bytes of its address.
        headers: all values under each name in small letters.
    """

    method: str
    path: str
    query: bytes
    scheme: str
    length: int
    headers: Mapping[bytes, list[bytes]]

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """Read an ASGI scope."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.strip())
        path, query = scope["path"], scope.get("query_string", b"")
        length = len(scope.get("raw_path") or path.encode(errors="replace")) + len(query)
        return cls(scope["method"].upper(), path, query, scope.get("scheme", "http"), length, headers)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return self.headers.get(name, [])

    def one(self, name: bytes) -> bytes | None:
        """The value of a header; None where there is none, or more than one, so that nothing is clear."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None

    @property
    def reads(self) -> bool:
        """Whether it asks for something and for no change."""
        return self.method in _READING

    @property
    def is_api(self) -> bool:
        """Whether a program asks, not a person's browser for a page."""
        return self.path == "/api" or self.path.startswith("/api/")

    @property
    def wants_page(self) -> bool:
        """Whether an error is best shown as a page."""
        return self.opens_page and b"text/html" in b",".join(self.all(b"accept"))

    @property
    def opens_page(self) -> bool:
        """Whether it asks for a page, in whose address a token may stand."""
        return self.method == "GET" and not self.is_api
