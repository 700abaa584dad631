from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ashwood.dashboard.app import create_app
from ashwood.eventlog.home import open_home

from .homes import Steered, a_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def steered() -> Steered:
    return Steered()


@pytest.fixture(scope="module")
def client(home: Path, steered: Steered) -> Iterator[TestClient]:
    app = create_app(lambda: open_home(home), name="home", steering=steered)
    with TestClient(app, base_url="http://localhost") as client:
        yield client
