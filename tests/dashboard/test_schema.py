"""Tests that all answers of the application match its OpenAPI schema, with generated requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ashwood.dashboard.app import create_app
from ashwood.dashboard.guard import GuardRules
from ashwood.eventlog.home import open_home

from .homes import Steered, a_home
from .serving import served

_OPERATIONS = [
    operation.ok()  # type: ignore[union-attr]
    for operation in schemathesis.openapi.from_dict(create_app(lambda: open_home(None), name="").openapi())
    .exclude(path_regex="live$")  # ends never
    .get_all_operations()
]
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = a_home(tmp_path_factory.mktemp("home"))
    app = create_app(lambda: open_home(home), name="home", steering=Steered())
    # A test changes more in a second than a person.
    with served(app, GuardRules(changes_per_second=1e9), lifespan="on") as (host, port):
        yield f"http://{host}:{port}"


@pytest.mark.parametrize("operation", _OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_matches_the_schema(operation: Any, url: str) -> None:
    # Each preview is a process of its own.
    @settings(max_examples=4 if "preview" in operation.label else 15)
    @given(operation.as_strategy())
    def answers_as_it_must(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=_CHECKS)

    answers_as_it_must()
