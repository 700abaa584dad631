"""A real S3 server on this machine, moto's, whose answers a test can spoil."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Spoil = Callable[[str, str], "bool | str"]

_ERRORS = {
    "503": ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    "403": ("403 Forbidden", "ExpiredToken", "The provided token has expired."),
    "500": ("500 Internal Server Error", "InternalError", "We encountered an internal error."),
    "404": ("404 Not Found", "NoSuchBucket", "The specified bucket does not exist"),
}


class S3:
    """A server with one bucket.

    Attributes:
        spoil: called with the method and path of each request.  It returns how to answer: False (as it should be),
            True or "503", "403", "404", "500", or "silence": not at all, until `spoil` says otherwise.
        keys: the access key of each request.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.spoil: Spoil = lambda _method, _path: False
        self.keys: list[str] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a client finds it by."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def new_place(self) -> str:
        """The URL of an empty prefix."""
        return f"s3://bucket/{uuid.uuid4()}"

    def start(self) -> None:
        """Serve, and make the bucket; the environment must lead to it."""
        import boto3

        self._thread.start()
        boto3.client("s3").create_bucket(Bucket="bucket")

    def stop(self) -> None:
        """End all connections."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.keys.append(environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0])
        while (how := self.spoil(environ["REQUEST_METHOD"], environ["PATH_INFO"])) == "silence":
            time.sleep(0.01)
        if how:
            status, code, message = _ERRORS["503" if how is True else str(how)]
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]
        answer: Iterable[bytes] = self._app(environ, start)
        return answer


@contextmanager
def serve_s3() -> Iterator[S3]:
    """Run a server while the context is open, and set the environment so that clients of this process find it.

    The test is skipped if moto is not installed.
    """
    pytest.importorskip("moto", reason="moto is not installed")
    from s3fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        # A process keeps its clients, which would speak to the server of an earlier test.
        S3FileSystem.clear_instance_cache()
        server.start()
        yield server
        server.stop()
        S3FileSystem.clear_instance_cache()
