"""A short version of ``python -m tests.torture``: a few dozen kills, a sample of the crash points."""

from itertools import islice
from pathlib import Path

import pytest

from ashwood.experiment.decisions import TrainTrial
from ashwood.experiment.events import ValidationReported
from tests.postgres import PostgresServer

from .experiment import count_points, torture
from .oracle import Evidence, differences, judge
from .rack import point_case
from .scenarios import EXTENDED, SCENARIOS, SMALLEST, Scenario
from .schedule import POINTS, Blow, Victim, blows

pytestmark = pytest.mark.timeout(400)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
ODD = BY_NAME["adaptive, 1 worker, odd trials"]


SLOW_ON_POSTGRESQL = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture
def home(request: pytest.FixtureRequest) -> str | None:
    """Where the record is; None: in a directory of the experiment's own."""
    if request.param == "sqlite":
        return None
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh_database()


def undisturbed(scenario: Scenario, directory: Path) -> Evidence:
    return torture(scenario, directory, 0, iter(())).evidence


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """An undisturbed run of the experiment with odd trials."""
    return undisturbed(ODD, tmp_path_factory.mktemp("odd"))


def killed_at_random(
    directory: Path, scenario: Scenario, undisturbed: Evidence, seed: int, home: str | None = None
) -> None:
    schedule = blows(seed, entries=len(undisturbed.entries), worker_kills=scenario.max_restarts)
    outcome = torture(scenario, directory, 0, islice(schedule, 5), home=home)
    assert judge(outcome.evidence, undisturbed, ordered=scenario.workers == 1).complaints == [], outcome.dealt
    assert outcome.kills >= 1


@pytest.mark.parametrize("home", SLOW_ON_POSTGRESQL, indirect=True)
def test_killed_at_random_an_experiment_ends_as_if_nothing_had_happened(
    tmp_path: Path, odd: Evidence, home: str | None
) -> None:
    killed_at_random(tmp_path, ODD, odd, 1, home)


def test_killed_at_random_experiment_with_max_size_decides_the_same(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenario = BY_NAME["sync halving, 1 worker, max_size"]
    calm = undisturbed(scenario, tmp_path_factory.mktemp("undisturbed"))
    assert any(isinstance(d, TrainTrial) and d.repeats for entry in calm.entries for d in entry.decisions)
    killed_at_random(tmp_path, scenario, calm, 2)


@pytest.mark.slow
def test_killed_at_random_many_workers_and_commands_do_too(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenario = BY_NAME["command, 2 workers"]
    killed_at_random(tmp_path, scenario, undisturbed(scenario, tmp_path_factory.mktemp("undisturbed")), 5)


def test_killed_while_its_search_is_extended_an_experiment_ends_as_if_nothing_had_happened(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenario = EXTENDED[0]
    calm = undisturbed(scenario, tmp_path_factory.mktemp("undisturbed"))
    schedule = [
        Blow(Victim.DRIVER, len(calm.entries), 0.0),  # Until the search is done, nothing happens.
        Blow(Victim.DRIVER, 40, 0.0, "driver.append.before", 1),  # The extension was asked for, and isn't recorded.
        Blow(Victim.DRIVER, 40, 0.0, "driver.append.after", 1),  # It is recorded, and nothing has been done about it.
        Blow(Victim.BOTH, 4, 0.0),
    ]
    outcome = torture(scenario, tmp_path, 0, iter(schedule))
    assert judge(outcome.evidence, calm, ordered=True).complaints == [], outcome.dealt
    assert outcome.kills >= 3
    reports = [entry.event.length for entry in outcome.evidence.entries if isinstance(entry.event, ValidationReported)]
    assert max(reports) == 20


@pytest.mark.slow
@pytest.mark.parametrize("scenario", EXTENDED, ids=lambda scenario: scenario.name)
def test_killed_at_random_before_and_after_its_extension_an_experiment_ends_as_it_must(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, scenario: Scenario
) -> None:
    killed_at_random(tmp_path, scenario, undisturbed(scenario, tmp_path_factory.mktemp("undisturbed")), 3)


def killed_at(directory: Path, name: str, smallest: Evidence, home: str | None = None) -> None:
    case = point_case(name)
    assert case.blow is not None
    outcome = torture(SMALLEST, directory, case.seed, iter([case.blow]), home=home)
    assert judge(outcome.evidence, smallest, ordered=True).complaints == [], outcome.dealt


@pytest.mark.parametrize(
    ("name", "home"),
    [
        # A report that was not acknowledged.
        ("driver.append.before:3:driver", "sqlite"),
        ("driver.append.before:3:driver", "postgresql"),
        # The end is recorded, but no terminal has shown it.
        ("driver.append.after:33:driver", "sqlite"),
        pytest.param("driver.append.after:33:driver", "postgresql", marks=pytest.mark.slow),
    ],
    indirect=["home"],
)
def test_killed_around_a_commit_an_experiment_ends_as_if_nothing_had_happened(
    tmp_path: Path, smallest: Evidence, name: str, home: str | None
) -> None:
    killed_at(tmp_path, name, smallest, home)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("worker.send.after:3:both", marks=pytest.mark.slow),
        "worker.rename.before:1:driver",  # a checkpoint that is being saved when the driver dies
        "worker.rename.after:2:worker",  # one that is complete, and nobody knows of it
    ],
)
def test_killed_around_a_checkpoint_an_experiment_ends_as_if_nothing_had_happened(
    tmp_path: Path, smallest: Evidence, name: str
) -> None:
    killed_at(tmp_path, name, smallest)


def test_every_crash_point_is_reached(tmp_path: Path, smallest: Evidence) -> None:
    evidence, reached = count_points(SMALLEST, tmp_path, 0)
    assert set(POINTS) <= set(reached)
    # And nothing depends on chance or time: two runs of one seed are the same, event for event.
    assert list(differences(smallest.entries, evidence.entries)) == []


@pytest.mark.slow
def test_runs_of_one_seed_are_the_same_event_for_event(tmp_path: Path, odd: Evidence) -> None:
    assert list(differences(odd.entries, undisturbed(ODD, tmp_path).entries)) == []
