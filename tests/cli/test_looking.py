"""Tables, events, failures and help as a user reads them, on a terminal and in a pipe."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from ashwood.cli.main import GROUPS

from .conftest import EXPERIMENT, TRAIN, Workplace
from .terminal import on_terminal

FAILING = TRAIN.replace(
    "        start += 1\n",
    "        start += 1\n"
    "        if trial.hparams.optimizer.name == 'adam':\n"
    "            raise MemoryError(f'out of memory: {trial.id} MiB')\n",
).replace("loss=loss", "loss=loss if trial.hparams.x < 0.8 else float('nan')")


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A completed experiment: trials with adam fail, and those with a large x have diverged."""
    workplace = Workplace(tmp_path_factory.mktemp("failing"))
    workplace.write(EXPERIMENT.replace("max_trials: 24", "max_trials: 40") + "max_restarts: 0\n", FAILING)
    (workplace.path / "output").write_text(workplace.ashwood("run", "--workers", "2"))
    return workplace


def printed_by_run(workplace: Workplace) -> str:
    return (workplace.path / "output").read_text()


def test_run_takes_the_only_experiment_file_and_says_so(failing: Workplace) -> None:
    assert printed_by_run(failing).startswith("using toy.yaml\n")


def test_failed_and_diverged_trials_are_grouped_by_cause(failing: Workplace) -> None:
    states = [trial["state"] for trial in failing.json("trials")]
    failed = f"failed: {states.count('errored')} × MemoryError: out of memory: … MiB, all with optimizer.name = adam"
    for output in (printed_by_run(failing), failing.ashwood("describe")):
        assert failed in output
        assert re.search(r"^diverged: .*loss is NaN", output, re.MULTILINE)
    assert printed_by_run(failing).count("will not be retried") == 1
    first = failing.json("describe")["failures"][0]
    assert (first["kind"], len(first["trials"])) == ("failed", states.count("errored"))


def test_piped_run_prints_one_line_for_each_trial_that_takes_the_lead(failing: Workplace) -> None:
    leaders = re.findall(r"best so far: trial (\d+)", printed_by_run(failing))
    assert leaders
    assert all(one != another for one, another in pairwise(leaders))


def test_trials_fit_a_terminal_and_everything_goes_into_a_pipe(failing: Workplace) -> None:
    with on_terminal(failing, "trials", columns=60) as screen:
        lines = screen.left().splitlines()
    assert max(map(cell_len, lines)) <= 60
    assert lines[-1].startswith("20 more trials and ")
    assert lines[-1].endswith("more columns: --all")
    piped = failing.ashwood("trials").splitlines()[1:]
    assert len(piped) == 41
    losses = [float(line.split()[4]) for line in piped[1:] if line.split()[4] != "–"]
    assert losses == sorted(losses)


EXTENSION = ["extend", "--max-trials", "80", "--dry-run"]


@pytest.mark.parametrize("command", [["describe"], ["best"], ["checkpoints"], ["wait"], ["preview"], EXTENSION])
def test_lines_fit_a_terminal_without_broken_words(failing: Workplace, command: list[str]) -> None:
    with on_terminal(failing, *command, columns=80) as screen:
        lines = [line.rstrip() for line in screen.left().splitlines()]
    # Only a path that is longer than a line is broken.
    assert all(cell_len(line) <= 80 or " " not in line.removeprefix("logs: ").strip("# ") for line in lines), lines


def test_describe_begins_with_the_result_and_ends_with_the_origin(failing: Workplace) -> None:
    described = failing.ashwood("describe")
    parts = ["experiment 1", "# trial ", "hyperparameters:", "100% done", "arly stopping", "failed: ", "diverged: "]
    parts += ["adaptive_asha (standard)", "bracket 0", " checkpoints", "created ", "with Ashwood", "logs: "]
    places = [described.index(part) for part in parts]
    assert places == sorted(places)


def test_filter_that_matches_nothing_offers_known_values(failing: Workplace) -> None:
    output = failing.ashwood("trials", "--filter", "state=erored")
    assert "state=erored (did you mean 'errored'?): values of state are completed, errored, stopped" in output
    assert "x>7: hparams.x is from 0." in failing.ashwood("trials", "--filter", "x>7")
    assert "labels are: none" in failing.ashwood("list", "--label", "good")


def test_errors_of_failed_trials_are_shown_on_a_narrow_terminal(failing: Workplace) -> None:
    with on_terminal(failing, "trials", "1", "--filter", "state=errored", columns=50) as screen:
        lines = screen.left().splitlines()
    assert lines[0].split()[:3] == ["trial", "state", "error"]
    assert re.fullmatch(r"\s+\d+  errored  MemoryError: out of memory: \d.*", lines[1])
    assert all(cell_len(line) <= 50 for line in lines)


def test_list_shows_metric_and_search(failing: Workplace) -> None:
    header, line = failing.ashwood("list").splitlines()
    assert header.split()[:7] == ["id", "name", "state", "done", "trials", "best", "created"]
    assert "adaptive_asha (standard)" in line
    with on_terminal(failing, "list", columns=80) as screen:
        assert all(cell_len(line) <= 80 for line in screen.left().splitlines())


def test_events_are_short_on_a_terminal(failing: Workplace) -> None:
    with on_terminal(failing, "events", columns=300) as screen:
        lines = screen.left().splitlines()
    assert max(map(cell_len, lines)) <= 200
    assert any(re.fullmatch(r"\s+→ bracket \d finished: \d+ waiting trials stopped", line) for line in lines)
    with on_terminal(failing, "events", "--only", "decisions", columns=60) as screen:
        shown = screen.left()
    assert max(map(cell_len, shown.splitlines())) <= 60
    assert re.search(r"→ pause trial \d+ \(rank \d+ of \d+ at rung 0; .* promoted( yet)?\)", " ".join(shown.split()))


def test_events_can_be_limited_to_kinds_and_to_the_last_ones(failing: Workplace) -> None:
    def kinds(*options: str) -> list[dict[str, Any]]:
        lines = failing.ashwood("events", "1", *options, "--json").splitlines()
        return [json.loads(line) for line in lines]

    assert all(event["event"]["is"] == "AttemptFailed" for event in kinds("--only", "failures"))
    assert [event["event"]["is"] for event in kinds("--only", "steering")] == ["DriverStarted", "DriverStopped"]
    everything = kinds()
    assert kinds("-n", "3") == everything[-3:]
    bests, failures = kinds("--only", "bests"), kinds("--only", "failures")
    assert 0 < len(bests) < len(everything)
    assert kinds("--only", "bests", "--only", "failures", "--after", "20") == [
        event for event in everything if event["seq"] > 20 and (event in bests or event in failures)
    ]


def test_files_have_default_names_and_are_not_replaced_silently(failing: Workplace) -> None:
    assert failing.ashwood("export").endswith("Wrote 40 trials to toy-1.csv.\n")
    assert "toy-1.csv exists; to replace it: --out toy-1.csv" in failing.ashwood("export", code=1)
    assert failing.json("export", "1", "--out", "toy-1.csv") == {"path": "toy-1.csv", "rows": 40}
    assert "Replaced toy-1.csv: 40 trials." in failing.ashwood("export", "--out", "toy-1.csv")
    (copied,) = failing.json("download")
    assert Path(failing.path / copied["path"]).is_dir()
    assert copied["path"].startswith("toy-1/trial-")


def test_keys_of_set_option_can_be_written_without_their_section(failing: Workplace) -> None:
    output = failing.ashwood("preview", "--set", "max_trials=7", "--set", "metric_at=0.1")
    assert "7 trials" in output
    assert failing.ashwood("preview-search", "toy.yaml", "--set", "searcher.max_trials=7").splitlines()


def test_help_is_in_groups_with_examples(failing: Workplace) -> None:
    listed = failing.ashwood("--help")
    assert [line for line in listed.splitlines() if line in GROUPS] == list(GROUPS)
    assert "kill-trial" not in listed
    described = failing.ashwood("trials", "--help")
    assert "  ashwood trials --all --filter state=errored" in described
    assert "<bool>" not in described
    assert failing.ashwood(code=2) == listed


def test_usage_errors_look_like_other_errors(failing: Workplace) -> None:
    assert failing.ashwood("bestt", code=2).startswith("error: no such command 'bestt'")
    unknown = failing.ashwood("best", "--foo", code=2).splitlines()
    assert unknown == ["error: no such option: --foo", "       See: ashwood best --help"]
    with on_terminal(failing, "trials", "--sort", "zzz", columns=40) as screen:
        lines = screen.left(code=1).splitlines()
    assert max(map(len, lines)) <= 40
    assert "hparams" not in "".join(lines)
