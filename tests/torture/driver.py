"""``python -m tests.torture.driver ARGUMENTS``: the ``ashwood`` command, with what the environment says going wrong."""

import os
import time

from ashwood.backends.ray import fleet
from ashwood.cli.main import main
from tests.torture import points

CLOCK = "ASHWOOD_TORTURE_CLOCK"
"""Environment variable ``CALLS SECONDS``: after so many looks at the clock it is so many seconds slow."""

IDLE = "ASHWOOD_TORTURE_IDLE"
"""Environment variable: so many seconds workers on a cluster stay that nobody needs."""


def jump(calls: int, seconds: float) -> None:
    """Let the machine's clock jump."""
    right = time.time
    looks = iter(range(calls))

    def wrong() -> float:
        return right() if next(looks, None) is not None else right() - seconds

    time.time = wrong


if __name__ == "__main__":
    points.arm_driver()
    if setting := os.environ.get(CLOCK):
        calls, seconds = setting.split()
        jump(int(calls), float(seconds))
    if seconds_idle := os.environ.get(IDLE):
        fleet.IDLE_SECONDS = float(seconds_idle)
    main()
