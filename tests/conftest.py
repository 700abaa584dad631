"""How hypothesis attacks: at random, so that every run tries something new, and with the blob that repeats a find."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.clusters import SETTINGS
from tests.postgres import postgres

__all__ = ["postgres"]

# Whoever imports Ray first, in whichever process.
os.environ.update(SETTINGS)

# Machines are shared and may be slow: time limits are pytest-timeout's business, not hypothesis's.
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what needs a Ray cluster: workers of xdist steal from each other's end, so that only one starts it."""
    items.sort(key=lambda item: "nodes" not in getattr(item, "fixturenames", ()))
