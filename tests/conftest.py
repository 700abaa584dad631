"""Settings of hypothesis, and the order of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ashwood.backends.local.reservation import LOCKS
from tests.clusters import SETTINGS
from tests.gpus import gpus
from tests.postgres import postgres
from tests.users import open_directory

__all__ = ["gpus", "open_directory", "postgres"]

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


_numbers = count()


@pytest.fixture(autouse=True, scope="session")
def lock_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of lock files, so that runs of tests do not wait for other runs on this machine."""
    directory = tmp_path_factory.getbasetemp() / "locks"
    os.environ[LOCKS] = str(directory / "shared")
    return directory


@pytest.fixture(autouse=True)
def own_lock_files(lock_files: Path) -> Iterator[None]:
    """Give each test lock files of its own: a worker of the test before may still live."""
    os.environ[LOCKS] = str(lock_files / str(next(_numbers)))
    yield
    os.environ[LOCKS] = str(lock_files / "shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests on Ray, then those in a browser.

    A worker of pytest-xdist that has finished takes tests from the end of another worker's list. So one worker alone
    starts the Ray cluster, and the tests that remain for the end are short.
    """
    items.sort(key=lambda item: [fixture not in getattr(item, "fixturenames", ()) for fixture in ("nodes", "chromium")])
