from collections.abc import Iterator

import pytest

from tests.s3 import S3, serve_s3


# File systems are kept a process long, and with them the server that they found first.
@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    yield s3_server
    s3_server.spoil = lambda _method, _path: False
