"""Time left of a running experiment, as other commands show it."""

from __future__ import annotations

from tests.cli.conftest import TRAIN, Workplace, go, wait_until

HELD = TRAIN.replace(
    'print("epoch", epoch)',
    "import pathlib, time\n        time.sleep(0.01)\n"
    "        while trial.id >= 8 and not pathlib.Path('go').exists():\n            time.sleep(0.01)",
)
"""Trials from the eighth on train only when there is a file ``go``."""


def test_describe_shows_time_left_of_running_experiment(workplace: Workplace) -> None:
    workplace.write(train=HELD)
    with workplace.driving("run", "toy.yaml", "--workers", "2") as driver:
        wait_until(lambda: bool(workplace.json("describe", "1")["reports"] >= 8))
        described = workplace.json("describe", "1")
        low, high = described["seconds_left_range"]
        assert 0 <= low <= described["seconds_left"] <= high
        assert "left" in workplace.ashwood("describe", "1")
        go(workplace)
        driver.communicate()
    described = workplace.json("describe", "1")
    assert (described["seconds_left"], described["seconds_left_range"]) == (0.0, None)
