"""What was acknowledged survives a power failure, not only the death of processes."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from .disks import CannotMount, power_disk
from .experiment import torture
from .oracle import judge
from .scenarios import SCENARIOS
from .schedule import Blow, Victim


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_power_fails_again_and_again(tmp_path: Path) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == "adaptive, 1 worker, often saved")
    (tmp_path / "undisturbed").mkdir()
    undisturbed = torture(scenario, tmp_path / "undisturbed", 1, iter(())).evidence
    (tmp_path / "tortured").mkdir()
    try:
        with power_disk(tmp_path / "disk") as disk:
            outcome = torture(scenario, tmp_path / "tortured", 1, failures(4), disk=disk)
    except CannotMount as why:
        pytest.skip(str(why))
    assert judge(outcome.evidence, undisturbed, ordered=True).complaints == [], outcome.dealt
    assert outcome.kills >= 3


def failures(count: int) -> Iterator[Blow]:
    draw = Random(count)
    yield Blow(Victim.POWER, 1, 0.0)
    for _ in range(count - 1):
        yield Blow(Victim.POWER, 1 + int(draw.expovariate(1 / 15)), draw.choice((0.0, 0.004)))
