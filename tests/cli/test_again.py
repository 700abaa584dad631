"""Repeating an experiment, resuming the latest one, and stopping at a goal or time limit."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.repositories import git

from .conftest import GATED, RANDOM, TRAIN, Workplace, go, wait_until

QUICK = ["--workers", "2", "--set", "searcher.max_trials=2"]


@pytest.fixture
def repository(workplace: Workplace) -> Workplace:
    """A workplace under version control."""
    workplace.write(RANDOM, TRAIN)
    git(workplace.path, "init", "--quiet")
    git(workplace.path, "add", ".")
    git(workplace.path, "commit", "--quiet", "--message", "first")
    return workplace


def draws(workplace: Workplace, experiment: int) -> list[tuple[float, int]]:
    return [(trial["hparams.x"], trial["seed"]) for trial in workplace.json("trials", str(experiment))]


# -- once more ------------------------------------------------------------------------------------


def test_run_from_repeats_experiment(repository: Workplace) -> None:
    commit = git(repository.path, "rev-parse", "HEAD")
    output = repository.ashwood("run", "toy.yaml", *QUICK)
    assert "warning" not in output
    described = repository.json("describe", "1")
    assert described["provenance"]["git"]["commit"] == commit
    assert described["provenance"]["overrides"] == ["searcher.max_trials=2"]
    assert f"commit {commit[:10]} of" in repository.ashwood("describe", "1")

    repository.write(train=TRAIN.replace("abs(trial.hparams.x - 0.3)", "7.0"))
    repository.file.unlink()
    output = repository.ashwood("run", "--from", "1", "--workers", "2")
    assert "warning: unlike experiment 1" not in output
    assert f"warning: 2 files differ from commit {commit[:10]}; their content is not recorded" in output
    assert draws(repository, 2) == draws(repository, 1)
    assert repository.json("describe", "2")["config"] == RANDOM
    assert repository.json("describe", "2")["provenance"]["from"] == 1

    git(repository.path, "commit", "--quiet", "--all", "--message", "second")
    output = repository.ashwood("run", "--from", "1", "--checkout", "--workers", "2", "--set", "searcher.max_trials=3")
    assert "unlike" not in output
    assert draws(repository, 3)[:2] == draws(repository, 1)
    assert len(draws(repository, 3)) == 3
    assert repository.json("best", "3")[0]["metric"] < 7
    # The checked-out code is deleted with its experiment, and can be checked out again.
    repository.ashwood("run", "--from", "3", "--checkout", "--workers", "2")
    assert draws(repository, 4) == draws(repository, 3)
    assert len(list((repository.path / ".ashwood" / "code").iterdir())) == 2
    repository.ashwood("delete", "3", "--yes")
    assert len(list((repository.path / ".ashwood" / "code").iterdir())) == 1

    output = repository.ashwood("run", "--from", "2", "--workers", "2")
    assert f"warning: unlike experiment 2: the commit of the code was {commit[:10]}, now it is" in output
    assert "warning: unlike experiment 2: at that time, 2 files differ from commit" in output


def test_run_from_refuses_experiment_without_file_or_commit(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", *QUICK)
    assert "outside of a git repository" in workplace.ashwood("run", "--from", "1", "--checkout", code=1)
    assert "no experiment 7" in workplace.ashwood("run", "--from", "7", code=1)
    output = workplace.ashwood("run", "--from", "1", "--set", "searcher.max_trails=2", code=2)
    assert "did you mean max_trials?" in output
    for arguments in (["toy.yaml", "--from", "1"], ["toy.yaml", "--checkout"], ["--from", "1", "--resume-latest"]):
        assert "give one of: FILE, --from ID" in workplace.ashwood("run", *arguments, code=2).replace("\n│ ", " ")
    assert len(workplace.json("list")) == 1


# -- the latest -----------------------------------------------------------------------------------


def test_resume_latest_resumes_latest_unfinished_experiment(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    assert "no experiments in" in workplace.ashwood("run", "--resume-latest", code=1)
    with workplace.driving("run", "--resume-latest", "toy.yaml", "--workers", "1"):
        assert "experiment 1 (toy) is running already" in workplace.ashwood(
            "run", "--resume-latest", "toy.yaml", code=1
        )
        assert "no experiment is unfinished here" in workplace.ashwood("run", "--resume-latest", code=1)
    (workplace.path / "go").touch()
    workplace.file.with_name("other.yaml").write_text(RANDOM.replace("name: toy", "name: other"))
    workplace.ashwood("run", "--resume-latest", "other.yaml", *QUICK)
    assert [row["state"] for row in workplace.json("list")] == ["interrupted", "completed"]

    workplace.write(RANDOM + "# changed\n")
    output = workplace.ashwood("run", "--resume-latest", "toy.yaml", *QUICK)
    assert "warning: toy.yaml has changed: experiment 1 continues with its recorded configuration" in output
    assert "warning: --set has no effect: experiment 1" in output
    assert "experiment 1 completed" in output
    assert "experiment 3 completed" in workplace.ashwood("run", "--resume-latest", "toy.yaml", *QUICK)
    assert "no experiment is unfinished" in workplace.ashwood("run", "--resume-latest", code=1)


# -- enough ---------------------------------------------------------------------------------------


def test_goal_stops_search_and_better_goal_resumes_it(workplace: Workplace) -> None:
    workplace.write(RANDOM)
    output = workplace.ashwood("run", "toy.yaml", "--workers", "1", "--stop-when", "metric_at=5")
    assert "ending: trial 0 reached 1" in output
    assert "experiment 1 stopped: trial 0 reached" in output
    assert "ashwood resume 1 --stop-when metric_at=METRIC" in output
    described = workplace.json("describe", "1")
    assert described["state"] == "stopped"
    assert described["stop_when"] == {"metric_at": 5.0, "max_time": None}
    assert "stops when loss is 5 or better" in workplace.ashwood("describe", "1")

    assert "has already reached its goal" in workplace.ashwood("resume", "1", code=1)
    output = workplace.ashwood("resume", "1", "--workers", "2", "--stop-when", "none")
    assert "experiment 1 completed" in output
    assert workplace.json("replay", "1")["state"] == "completed"


def test_max_time_stops_search_and_longer_time_resumes_it(workplace: Workplace) -> None:
    workplace.write(RANDOM.replace("max_trials: 6", "max_trials: 6, stop_when: {max_time: 0.2}"), GATED)
    with workplace.driving("run", "toy.yaml", "--workers", "2") as driver:
        # An attempt that has not begun its first step ends at once, so the experiment may have stopped already.
        wait_until(lambda: workplace.json("describe", "1")["state"] in ("stopping", "stopped"))
        (workplace.path / "go").touch()
        driver.communicate()
    assert driver.returncode == 0
    assert workplace.json("describe", "1")["state"] == "stopped"
    assert "experiment 1 completed" in workplace.ashwood("resume", "1", "--workers", "2", "--stop-when", "max_time=1h")


def test_common_failure_pauses_run_and_says_how_to_continue(workplace: Workplace) -> None:
    failing = "def train(trial):\n    print('loading')\n    raise ValueError('no such thing')\n"
    workplace.write(RANDOM + "max_restarts: 0\n", failing)
    output = workplace.ashwood("run", "toy.yaml", "--workers", "1", code=1)
    assert "pausing: 3 trials failed in the same way before any reported anything: ValueError: no such thing" in output
    assert "Fix the error, then continue with: ashwood resume 1" in output
    assert "--set max_common_failures=0" in output
    # Once, with the traceback and what was printed.
    assert output.count("warning: trial 0 failed once and will not be retried: ValueError: no such thing") == 1
    assert output.count("will not be retried") == 1
    assert "  | loading" in output
    assert "Fix the error" in workplace.ashwood("describe", "1")
    workplace.write(train=TRAIN)
    assert "experiment 1 completed" in workplace.ashwood("resume", "1", "--workers", "2")


def test_resume_in_a_copy_says_that_it_takes_the_code_of_the_original(tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    original = Workplace(tmp_path / "original")
    original.write(RANDOM, TRAIN)
    original.ashwood("run", "toy.yaml", "--stop-when", "metric_at=100")
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copy = Workplace(tmp_path / "copy")
    copy.write(RANDOM, TRAIN)
    output = copy.ashwood("resume", "1", "--stop-when", "none")
    assert f"the training code is {tmp_path}/original/train.py" in output
    assert "To use the latter, add --workdir ." in output
    assert "the training code is" not in original.ashwood("resume", "1", "--stop-when", "none")


@pytest.mark.parametrize("command", [["resume", "1", "--workdir", "."], ["run", "--resume-latest", "toy.yaml"]])
def test_search_continues_in_a_directory_that_was_renamed(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "old").mkdir()
    former = Workplace(tmp_path / "old")
    former.write(RANDOM, GATED)
    with former.driving("run", "toy.yaml", "--workers", "1") as driver:
        driver.send_signal(signal.SIGINT)
        go(former)
        driver.communicate()
    (tmp_path / "old").rename(tmp_path / "new")
    workplace = Workplace.__new__(Workplace)
    workplace.path = tmp_path / "new"
    assert "resume with --workdir DIR" in workplace.ashwood("resume", "1", code=1)
    workplace.ashwood(*command)
    assert workplace.json("list")[0]["state"] == "completed"
    assert "there is no such directory" in workplace.ashwood("resume", "1", "--workdir", "nowhere", code=1)
