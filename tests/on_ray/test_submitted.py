"""Experiments that are submitted to a real cluster, and shown and controlled from this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ashwood.engine import open_home
from ashwood.experiment.events import ValidationReported
from ashwood.experiment.lifecycle import ExperimentState
from tests.cli.conftest import RANDOM, TRAIN, Workplace, wait_until
from tests.clusters import Nodes, ray_cluster_with_dashboard

WAITS = TRAIN.replace(
    'print("epoch", epoch)',
    "import os, pathlib, time\n        print(epoch, 'in', os.getcwd(), flush=True)\n"
    "        while epoch and not pathlib.Path('{gate}').exists():\n            time.sleep(0.01)",
)
"""Trains its first epoch, and the others when the file ``gate`` exists."""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # Ray starts a worker process per command, on a machine that others use too
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated"),  # from Ray's job client
]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home directory of the user who runs the cluster."""
    return tmp_path_factory.mktemp("head")


@pytest.fixture(scope="module")
def nodes(head: Path) -> Iterator[Nodes]:
    """A separate cluster with a dashboard, which takes jobs but makes every node start more slowly."""
    with ray_cluster_with_dashboard(2, home=head) as nodes:
        yield nodes


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def test_submitted_experiment_can_be_paused_and_resumed(workplace: Workplace, nodes: Nodes, head: Path) -> None:
    gate = workplace.path / "gate"
    workplace.write(RANDOM, WAITS.replace("{gate}", str(gate)))
    home, on = head / ".ashwood", ("--on", nodes.url)

    submitted = workplace.json("run", "toy.yaml", "--submit", nodes.url)
    assert submitted["experiment"] == 1
    with open_home(home) as opened:
        log = opened.store.log(1)
        wait_until(lambda: any(isinstance(entry.event, ValidationReported) for _, entry in log.read()))
        assert "pausing" in workplace.ashwood(*on, "pause", "1")
        gate.touch()
        wait_until(lambda: opened.store.record(1).state is ExperimentState.PAUSED)

        # The second job uses the code that the first one stored on the cluster.
        (workplace.path / "train.py").unlink()
        assert "experiment 1 runs on the cluster" in workplace.ashwood(*on, "activate", "1")
        wait_until(lambda: opened.store.record(1).state is ExperimentState.COMPLETED)
        assert str(home / "code") in opened.store.spec(1).workdir

    # Both jobs sent it to the nodes.
    assert (home / "experiments/1/logs/trial-0.log").read_text().count("working_dir_files") >= 2


def test_remote_command_returns_output_and_exit_code(workplace: Workplace, nodes: Nodes) -> None:
    nowhere = str(workplace.path / "nowhere")
    command = ("logs", "1", "1", "--follow", "--home", nowhere)
    assert f"there are no experiments in {nowhere}" in workplace.ashwood("--on", nodes.url, *command, code=1)
