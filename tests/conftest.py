"""Settings of hypothesis, and the order of the tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.clusters import SETTINGS
from tests.postgres import postgres
from tests.users import open_directory

__all__ = ["open_directory", "postgres"]

# Whoever imports Ray first, in whichever process.
os.environ.update(SETTINGS)

# Examples are random, so that every run tries new ones; a failure prints the blob that repeats it.  An example has no
# deadline, because the machine may be busy: pytest-timeout limits each test.
settings.register_profile(
    "ci", max_examples=10, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("all", settings.get_profile("ci"), max_examples=100)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests on Ray, then those in a browser.

    A worker of pytest-xdist that has finished takes tests from the end of another worker's list. So one worker alone
    starts the Ray cluster, and the tests that remain for the end are short.
    """
    items.sort(key=lambda item: [fixture not in getattr(item, "fixturenames", ()) for fixture in ("nodes", "chromium")])
