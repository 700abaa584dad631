"""Fixtures with worlds, whose logs are replayed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.experiment.world import World, make_spec

Begin = Callable[..., World]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Yield a function that creates a world and starts its driver: ``begin(slots=2, max_trials=4)``."""
    worlds: list[World] = []

    def make(*, slots: int | None = 2, **spec: Any) -> World:
        worlds.append(World(make_spec(**spec)))
        if slots is not None:
            worlds[-1].start(slots)
        return worlds[-1]

    yield make
    for world in worlds:
        world.replay()
