"""``ashwood plan``: proposals, and the files that it writes."""

from __future__ import annotations

import pytest

from ashwood.config import read_experiment
from tests.cli.conftest import Workplace

TRAINING = ("--max-length", "8 epochs", "--unit-time", "60s", "--unit-time-spread", "1.2x", "--workers", "2")
BUDGET = ("--deadline", "30min")


@pytest.fixture(autouse=True)
def _few_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rougher ranges, in a tenth of the time."""
    for constant, value in (
        ("plan._ROUGH", 400),
        ("plan._CLOSER", 800),
        ("preview._SIMULATED_TRIALS", 600),
        ("searches._SIMULATED_TRIALS", 300),
    ):
        monkeypatch.setattr(f"ashwood.forecast.{constant}", value)


def test_plan_prints_reasons_and_alternatives(workplace: Workplace) -> None:
    output = workplace.ashwood("plan", *TRAINING, *BUDGET, "--divisor", "2", "--cost-per-worker-hour", "2")
    lines = output.splitlines()
    assert lines[0].startswith("adaptive_asha ")
    row = next(number for number, line in enumerate(lines) if line.startswith("search "))
    assert [line.split("  ")[0] for line in lines[row + 1 : row + 6]][-1] == "random"
    assert "The limit is the deadline of 30 min 00 s" in output
    assert "each to full length" in output
    assert "searcher:\n  name: adaptive_asha\n" in output
    assert not (workplace.path / ".ashwood").exists()


def test_plan_writes_file_that_runs(workplace: Workplace) -> None:
    workplace.ashwood("init", "mine")
    (workplace.path / "mine" / "experiment.yaml").unlink()
    output = workplace.ashwood("plan", *TRAINING, *BUDGET, "--metric", "validation_loss", "--out", "mine/search.yaml")
    assert "are examples: replace them" in output
    spec = read_experiment(workplace.path / "mine" / "search.yaml").spec
    assert spec.search.max_length == 8
    assert spec.name == "search"
    planned = workplace.json("plan", *TRAINING, *BUDGET)
    assert planned["proposal"]["settings"]["max_trials"] == spec.search.max_trials
    output = workplace.ashwood(
        "run", "mine/search.yaml", "--set", "searcher.max_trials=2", "--set", "searcher.max_length=2"
    )
    assert "completed" in output


def test_a_plan_changes_only_the_search_of_a_file(workplace: Workplace) -> None:
    before = workplace.file.read_text()
    training = ("--unit-time", "60s", "--workers", "4", "--worker-hours", "2")
    workplace.ashwood("plan", "--file", "toy.yaml", *training, "--out", "toy.yaml")
    after = workplace.file.read_text()
    assert after.split("searcher:")[0] == before.split("searcher:")[0]
    spec = read_experiment(workplace.file).spec
    assert (spec.search.max_length, spec.search.max_concurrent_trials, spec.metric) == (16, 16, "loss")
    workplace.ashwood("plan", "--file", "toy.yaml", *training, "--max-length", "4 epochs", "--out", "other.yaml")
    assert read_experiment(workplace.path / "other.yaml").spec.search.max_length == 4


def test_a_plan_in_json(workplace: Workplace) -> None:
    planned = workplace.json("plan", *TRAINING, "--worker-hours", "1")
    assert planned["most_seconds"] == 1800
    assert planned["proposal"]["seconds"]["high"] <= 1800
    assert planned["searcher"]["max_trials"] == planned["proposal"]["trials"]
    assert len(planned["alternatives"]) == 4
    assert planned["reasons"]


def test_planned_file_has_the_planned_search_in_any_mode(workplace: Workplace) -> None:
    training = ("--file", "toy.yaml", "--unit-time", "60s", "--workers", "4", "--deadline", "30min")
    planned = workplace.json("plan", *training, "--mode", "auto", "--out", "auto.yaml")
    search = read_experiment(workplace.path / "auto.yaml").spec.search
    settings = planned["proposal"]["settings"]
    assert (search.mode, search.max_rungs, search.sampler) == ("auto", settings["max_rungs"], settings["sampler"])
    assert (float(search.divisor), search.max_trials) == (settings["divisor"], settings["max_trials"])


def test_plan_for_too_small_budget_names_smallest_one(workplace: Workplace) -> None:
    output = workplace.ashwood("plan", *TRAINING, "--deadline", "4min", code=1)
    assert "no search fits the deadline of 4 min 00 s: in nine of ten cases a single trial of 8 epochs takes" in output
    assert "train at most about" in output
    output = workplace.ashwood("plan", *TRAINING, "--worker-hours", "0.01", code=1)
    assert "no search fits 0.01 worker-hours" in output
    assert "use fewer workers" in output


def test_plan_does_not_overwrite_file(workplace: Workplace) -> None:
    before = workplace.file.read_text()
    assert "already exists" in workplace.ashwood("plan", *TRAINING, *BUDGET, "--out", "toy.yaml", code=1)
    assert workplace.file.read_text() == before


def test_plan_refuses_grid_search(workplace: Workplace) -> None:
    workplace.write(
        "entrypoint: train:train\nhyperparameters: {x: {type: double, minval: 0, maxval: 1, count: 3}}\n"
        "searcher: {name: grid, metric: loss, max_length: 3}\n"
    )
    assert "nothing to plan" in workplace.ashwood("plan", "--file", "toy.yaml", *TRAINING, *BUDGET, code=1)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ((), "--max-length: is missing"),
        ((), "--unit-time: is missing"),
        ((), "--workers: is missing"),
        ((), "--deadline: is missing"),
        (("--deadline", "soon"), "--deadline: must be a duration"),
        (("--worker-hours", "0"), "--worker-hours: must be a number above 0"),
        (("--max-length", "long"), "--max-length: must be a length"),
        (("--divisor", "1"), "--divisor: must be a number from 1.1"),
        (("--divisor", "x"), "--divisor: must be a number from 1.1"),
        (("--mode", "fast"), "--mode: must be a mode, one of aggressive"),
        (("--measure",), "--measure: needs training code"),
    ],
)
def test_plan_names_all_wrong_and_missing_options(
    workplace: Workplace, arguments: tuple[str, ...], output: str
) -> None:
    assert output in workplace.ashwood("plan", *arguments, code=2)
