"""Runs that share the GPUs of a machine."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import ashwood
from ashwood.api.slots import check_room
from ashwood.backends.local.reservation import reserve
from ashwood.config import parse_experiment
from ashwood.errors import ConfigError, NotFound
from ashwood.testing.backend import toy_spec

from .conftest import GATED, RANDOM, Workplace, go, wait_until

WAITS = "waiting for a free GPU (in use: GPUs 0, 1, 2, 3 by experiment 9)"


@pytest.fixture
def holder(gpus: list[str]) -> Iterator[ExitStack]:
    """Reserves all GPUs until it is closed."""
    with ExitStack() as stack:
        stack.enter_context(reserve(toy_spec(Path("/w")), len(gpus), "experiment 9"))
        yield stack


def read_warning(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def test_run_waits_for_a_gpu_and_says_so(workplace: Workplace, holder: ExitStack) -> None:
    workplace.write(RANDOM)
    with workplace.start("run", "toy.yaml") as process:
        assert read_warning(process) == f"warning: {WAITS}. To use all GPUs without waiting, add --share\n"
        wait_until(lambda: f"experiment 1 is {WAITS}\n" in workplace.ashwood("list"))
        assert workplace.json("describe", "1")["driver_waits"] == WAITS.removeprefix("waiting for ")
        holder.close()
        assert process.wait(60) == 0
    assert workplace.json("list")[0]["driver_waits"] is None


@pytest.mark.usefixtures("holder")
def test_run_that_waits_for_a_gpu_can_be_ended(workplace: Workplace) -> None:
    with workplace.start("run", "toy.yaml") as process:
        read_warning(process)
        process.send_signal(signal.SIGINT)
        assert "No trial was started. To continue: ashwood resume 1\n" in process.communicate()[1]
    assert "is waiting for" not in workplace.ashwood("list")
    output = workplace.ashwood("activate", "1")
    assert output.startswith("experiment 1 waits in the background for a free GPU (in use: GPUs 0, 1, 2, 3 by exp")
    workplace.ashwood("cancel", "1")
    assert workplace.json("list")[0]["state"] == "canceled"


@pytest.mark.usefixtures("holder")
def test_run_that_shares_does_not_wait(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    assert "warning" not in workplace.ashwood("run", "toy.yaml", "--share")


@pytest.mark.usefixtures("gpus")
def test_second_run_takes_the_other_gpus(workplace: Workplace) -> None:
    tells = "import os, pathlib, time; print('on GPU', os.environ['CUDA_VISIBLE_DEVICES'])"
    workplace.write(RANDOM, GATED.replace("import pathlib, time", tells))
    with workplace.driving("run", "toy.yaml", "--workers", "3"), workplace.start("run", "toy.yaml") as second:
        assert "this run uses 1 of the 4 GPUs (3). In use by others: GPUs 0, 1, 2 by exp" in read_warning(second)
        go(workplace)
        second.communicate()
    assert "on GPU 3\n" in workplace.ashwood("logs", "2", "0")


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize(
    "command",
    [["check"], ["preview-search", "--measure"], ["plan", "--workers", "2", "--deadline", "9h", "--measure", "--file"]],
)
def test_other_commands_that_train_wait_for_a_gpu(workplace: Workplace, command: list[str]) -> None:
    with workplace.start(*command, "toy.yaml") as process:
        assert WAITS in read_warning(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0


@pytest.mark.usefixtures("holder")
def test_check_can_share_a_gpu(workplace: Workplace) -> None:
    assert "warning" not in workplace.ashwood("check", "toy.yaml", "--share")


def test_run_says_that_another_uses_the_cores(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workplace.write(RANDOM)
    with reserve(toy_spec(Path("/w")), None, "experiment 9"):
        output = workplace.ashwood("run", "toy.yaml")
    assert (
        "warning: another Ashwood run uses this machine's cores (experiment 9): trials may train more slowly\n"
        in output
    )


MANY = 100_000
TOO_MANY = RANDOM + f"resources: {{slots_per_trial: {MANY}}}\n"


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (TOO_MANY, [], f"toy.yaml:7: resources.slots_per_trial: is {MANY}, but this machine has "),
        (TOO_MANY.replace("slots", "cpus"), [], f"toy.yaml:7: resources.cpus_per_trial: is {MANY}, but this machine"),
        (
            RANDOM,
            ["--set", f"resources.slots_per_trial={MANY}"],
            f"--set: resources.slots_per_trial: is {MANY}, but th",
        ),
    ],
)
def test_trial_that_does_not_fit_is_refused_before_an_experiment_is_created(
    workplace: Workplace, text: str, arguments: list[str], words: str
) -> None:
    workplace.write(text)
    assert words in workplace.ashwood("run", "toy.yaml", *arguments, code=2)
    assert workplace.json("list") == []
    assert words in workplace.ashwood("check", "toy.yaml", *arguments, code=2)


def test_trial_that_does_not_fit_is_refused_in_python(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^resources.slots_per_trial: is {MANY}, but this machine has "):
        ashwood.run(
            "train:train",
            hparams={},
            searcher=ashwood.RandomSearch(metric="loss", max_length={"epochs": 1}, max_trials=1),
            home=tmp_path,
            resources={"slots_per_trial": MANY},
        )
    with pytest.raises(NotFound):
        ashwood.open_experiment(1, home=tmp_path)


def test_trial_that_fits_no_node_yet_is_not_refused_here(tmp_path: Path) -> None:
    check_room(parse_experiment(TOO_MANY + "backend: ray\n", workdir=tmp_path))
