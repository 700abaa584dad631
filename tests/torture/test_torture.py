"""A short version of ``python -m tests.torture``: a few dozen kills, a sample of the crash points."""

from itertools import islice
from pathlib import Path

import pytest

from .experiment import count_points, torture
from .oracle import Evidence, differences, judge
from .rack import point_case
from .scenarios import SCENARIOS, SMALLEST, Scenario
from .schedule import POINTS, blows

pytestmark = pytest.mark.timeout(400)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("adaptive, 1 worker, odd trials", 1),
        ("sync halving, 4 workers, odd trials", 3),
        ("command, 2 workers", 5),
    ],
)
def test_killed_at_random_an_experiment_ends_as_if_nothing_had_happened(tmp_path: Path, name: str, seed: int) -> None:
    scenario = BY_NAME[name]
    (tmp_path / "undisturbed").mkdir()
    undisturbed = torture(scenario, tmp_path / "undisturbed", 0, iter(())).evidence
    (tmp_path / "tortured").mkdir()
    schedule = blows(seed, entries=len(undisturbed.entries), worker_kills=scenario.max_restarts)
    outcome = torture(scenario, tmp_path / "tortured", 0, islice(schedule, 5))
    assert judge(outcome.evidence, undisturbed, ordered=scenario.workers == 1).complaints == [], outcome.dealt
    assert outcome.kills >= 1


@pytest.mark.parametrize(
    "name",
    [
        "driver.append.before:3:driver",  # a report that nobody has acknowledged
        "driver.append.after:3:driver",  # decided and recorded, not acted on
        "driver.append.after:33:driver",  # the end is recorded, nobody was told
        "worker.send.after:3:both",
        "worker.rename.before:1:driver",  # a checkpoint that is being saved when the driver dies
        "worker.rename.after:2:worker",  # one that is complete, and nobody knows of it
    ],
)
def test_killed_at_a_crash_point_an_experiment_ends_as_if_nothing_had_happened(
    tmp_path: Path, smallest: Evidence, name: str
) -> None:
    case = point_case(name)
    assert case.blow is not None
    outcome = torture(SMALLEST, tmp_path, case.seed, iter([case.blow]))
    assert judge(outcome.evidence, smallest, ordered=True).complaints == [], outcome.dealt


def test_every_crash_point_is_reached(tmp_path: Path, smallest: Evidence) -> None:
    evidence, reached = count_points(SMALLEST, tmp_path, 0)
    assert set(POINTS) <= set(reached)
    # And nothing depends on chance or time: two runs of one seed are the same, event for event.
    assert list(differences(smallest.entries, evidence.entries)) == []


def test_runs_of_one_seed_are_the_same_event_for_event(tmp_path: Path) -> None:
    scenario: Scenario = BY_NAME["adaptive, 1 worker, odd trials"]
    logs = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        logs.append(torture(scenario, tmp_path / name, 3, iter(())).evidence.entries)
    assert list(differences(*logs)) == []
