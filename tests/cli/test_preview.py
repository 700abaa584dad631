"""``ashwood preview`` with and without training times."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import Workplace

PRICED = ("--cost-per-worker-hour", "2.10", "--checkpoint-size", "300MB", "--start-time", "5s", "--save-time", "2s")


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


@pytest.fixture
def small(workplace: Workplace) -> Workplace:
    workplace.file.write_text(workplace.file.read_text().replace("max_trials: 24", "max_trials: 16"))
    return workplace


def test_preview_compares_time_and_cost_with_other_searches(small: Workplace) -> None:
    output = small.ashwood("preview-search", "toy.yaml", "--workers", "4", "--unit-time", "40s", *PRICED)
    lines = output.splitlines()
    row = next(line for line in lines if line.startswith("search "))
    assert row.split()[:6] == ["search", "time", "10–90", "%", "worker-h", "cost"]
    rows = [line.split("  ")[0] for line in lines[lines.index(row) + 1 :]]
    assert rows[:6] == ["standard", "aggressive", "conservative", "auto", "sync_halving", "random"]
    assert "On 4 workers, with 40 s for 1 epoch on average" in output
    assert "random search would train" in output
    assert "checkpoints at once" in output
    assert len(lines) < 41


def test_times_of_a_forecast_have_one_unit_for_each_column(small: Workplace) -> None:
    priced = ("--cost-per-worker-hour", "2.10 EUR")
    output = small.ashwood("preview", "--workers", "4", "--unit-time", "9min", *priced)
    header, *rows = [line for line in output.splitlines() if re.match(r"(search|standard|auto|random) ", line)]
    assert "  cost (EUR)  " in header
    units = [re.findall(r" (d|h|min|s)\b", row) for row in rows]
    assert len(units) == 3
    assert units[0] == units[1] == units[2]
    assert len(units[0]) == 3


def test_preview_prints_json(small: Workplace) -> None:
    shown = small.json("preview-search", "toy.yaml", "--workers", "4", "--unit-time", "40s", *PRICED)
    forecast = shown["forecast"]
    assert forecast["seconds"]["low"] <= forecast["seconds"]["middle"] <= forecast["seconds"]["high"]
    assert forecast["cost"]["middle"] == pytest.approx(2.1 * forecast["worker_hours"]["middle"])
    assert forecast["disk_bytes"]["high"] == 3e8 * forecast["checkpoints"]["high"]
    assert shown["conditions"]["unit_seconds"] == 40
    assert shown["conditions"]["costs"] == {"start": 5, "restore": 0, "save": 2, "straggling": 0}
    assert [each["settings"]["method"] for each in shown["beside"]][-2:] == ["sync_halving", "random"]


def test_preview_without_unit_time_shows_no_times(small: Workplace) -> None:
    shown = small.json("preview-search", "toy.yaml", "--workers", "4")
    assert shown["forecast"] is None
    assert "conditions" not in shown
    assert "hours" not in small.ashwood("preview-search", "toy.yaml")


def test_preview_counts_starting_points(small: Workplace) -> None:
    start = ("--set", "searcher.start_with=[{x: 0.1}, {x: 0.2}]")
    expected = "2 starting points, which the first trials of the first bracket use"
    assert expected in small.ashwood("preview-search", "toy.yaml", *start)
    assert small.json("preview-search", "toy.yaml", *start)["start_with"] == 2


def test_preview_shows_expected_audits(small: Workplace) -> None:
    assert "audit" not in small.ashwood("preview-search", "toy.yaml")
    printed = small.ashwood("preview-search", "toy.yaml", "--set", "searcher.audit=0.3")
    assert ", audit 0.3\n" in printed
    assert re.search(r"Expected audits: \d+ \(\d+–\d+\)\. Each promotes a trial that is drawn at random", printed)


def test_preview_and_description_name_past_searches_and_priors(small: Workplace) -> None:
    (small.path / "past.csv").write_text("x,loss\n" + "".join(f"0.{n},{n}\n" for n in range(1, 9)))
    guides = ("--set", "searcher.warm_start=[past.csv]", "--set", "hyperparameters.x.prior=0.25")
    lines = (
        f"warm start from {small.path / 'past.csv'}: 8 settings, 2 of them good\n",
        "1 prior: x=0.25 (medium)\n",
        "1 starting point, which the first trials of the first bracket use\n",
    )
    output = small.ashwood("preview-search", "toy.yaml", *guides)
    assert all(line in output for line in lines), output
    assert small.json("preview-search", "toy.yaml", *guides)["warm_start"] == {str(small.path / "past.csv"): 8}
    refused = small.ashwood("preview-search", "toy.yaml", "--set", "searcher.warm_start=[7]", code=2)
    assert "searcher.warm_start: experiment 7 cannot be used: there is no experiment in this home" in refused
    small.ashwood("run", "toy.yaml", *guides, "--workers", "2")
    output = small.ashwood("describe", "1")
    assert "8 settings, 2 of them good\n" in output
    assert all(line in output for line in lines[1:]), output


def test_preview_uses_workers_of_this_machine_by_default(small: Workplace) -> None:
    output = small.ashwood("preview-search", "toy.yaml", "--unit-time", "1s")
    assert "as many as fit this machine" in output


def test_preview_names_workers_that_max_concurrent_trials_leaves_idle(small: Workplace) -> None:
    output = small.ashwood("preview-search", "toy.yaml", "--unit-time", "1s", "--workers", "20")
    assert "max_concurrent_trials lets only 16 of the 20 workers train" in output


def test_preview_compares_grid_with_no_other_search(workplace: Workplace) -> None:
    workplace.file.write_text(
        workplace.file.read_text()
        .replace("name: adaptive_asha", "name: grid")
        .replace("max_trials: 24, divisor: 4", "max_concurrent_trials: 2")
        .replace("maxval: 1.0}", "maxval: 1.0, count: 3}")
    )
    shown = workplace.json("preview-search", "toy.yaml", "--unit-time", "1s", "--workers", "2")
    assert shown["exact"]
    assert shown["beside"] == []


def test_wrong_options_are_refused_with_an_example(small: Workplace) -> None:
    output = small.ashwood(
        "preview-search", "toy.yaml", "--unit-time", "soon", "--unit-time-spread", "0.5", "--checkpoint-size", "big",
        code=2,
    )  # fmt: skip
    assert "--unit-time: must be a duration above 0, such as 40s" in output
    assert "--unit-time-spread: must be a factor of at least 1, such as 1.5x" in output
    assert "--checkpoint-size: must be a size above 0, such as 300MB" in output


def test_options_that_need_a_unit_time_are_refused_without_it(small: Workplace) -> None:
    output = small.ashwood("preview-search", "toy.yaml", "--cost-per-worker-hour", "2", code=2)
    assert "--cost-per-worker-hour: has no effect without the time" in output
    assert "--unit-time 40s" in output


# -- what training takes, found out ----------------------------------------------------------------


def test_measure_finds_training_times(small: Workplace) -> None:
    output = small.ashwood("preview-search", "toy.yaml", "--workers", "2", "--measure")
    assert re.search(r"^Measured: \d+ trials took ", output)
    assert "per checkpoint." in output
    assert "random search would train" in output
    assert not (small.path / ".ashwood").exists()


def test_like_takes_training_times_of_experiment(small: Workplace) -> None:
    small.ashwood("run", "toy.yaml", "--workers", "2")
    shown = small.json("preview-search", "toy.yaml", "--workers", "2", "--like", "1")
    measured, assumed = shown["findings"]["measured"], shown["conditions"]
    assert measured["trials"] == 16
    assert assumed["unit_seconds"] == measured["unit_seconds"]
    assert assumed["costs"]["save"] == measured["save"]
    assert shown["forecast"]["disk_bytes"]["middle"] > 0
    output = small.ashwood("preview-search", "toy.yaml", "--workers", "2", "--like", "1")
    assert output.startswith("In experiment 1: 16 trials took ")
    planned = small.json("plan", "--file", "toy.yaml", "--like", "1", "--workers", "1", "--deadline", "10s")
    assert planned["conditions"]["unit_seconds"] == measured["unit_seconds"]


def test_options_override_findings(small: Workplace) -> None:
    small.ashwood("run", "toy.yaml", "--workers", "2")
    options = ("--unit-time", "40s", "--start-time", "5s", "--checkpoint-size", "1MB", "--unit-time-spread", "1x")
    shown = small.json("preview-search", "toy.yaml", "--workers", "2", "--like", "1", *options)
    assumed = shown["conditions"]
    assert (assumed["unit_seconds"], assumed["unit_trials"]) == (40, None)
    assert (assumed["spread"], assumed["spread_trials"]) == (1, None)
    assert (assumed["costs"]["start"], assumed["costs"]["restore"]) == (5, 0)
    assert assumed["costs"]["save"] == shown["findings"]["measured"]["save"]
    assert shown["forecast"]["disk_bytes"]["high"] == 1e6 * shown["forecast"]["checkpoints"]["high"]


def test_like_refuses_experiment_with_another_unit(small: Workplace) -> None:
    small.ashwood("run", "toy.yaml", "--workers", "2")
    small.write(small.file.read_text().replace("{epochs: 16}", "{batches: 16}"))
    output = small.ashwood("preview-search", "toy.yaml", "--like", "1", code=1)
    assert "--like 1: lengths of that experiment are in epochs and here in batches" in output


def test_measure_and_like_exclude_each_other(small: Workplace) -> None:
    assert "remove one of them" in small.ashwood("preview-search", "toy.yaml", "--like", "1", "--measure", code=2)


def test_preview_counts_time_of_periodic_checkpoints(small: Workplace) -> None:
    small.file.write_text(small.file.read_text() + "min_checkpoint_period: {epochs: 4}\n")
    options = ("--workers", "2", "--unit-time", "40s", "--save-time", "8s")
    assert small.json("preview-search", "toy.yaml", *options)["conditions"]["unit_seconds"] == 42


def test_preview_on_cluster_uses_max_concurrent_trials(small: Workplace) -> None:
    text = small.file.read_text()
    small.write(f"{text}backend: ray\n")
    command = ("preview-search", "toy.yaml", "--unit-time", "40s")
    assert "On 16 workers (as many as can train at once, if the Ray cluster has" in small.ashwood(*command)
    assert "On 3 workers, with" in small.ashwood(*command, "--workers", "3")
    assert small.json(*command, "--set", "searcher.max_concurrent_trials=5")["conditions"]["workers"] == 5
    assert small.json("preview-search", "toy.yaml")["forecast"] is None
    small.write(text.replace("name: adaptive_asha", "name: adaptive_asha, max_concurrent_trials: 0") + "backend: ray")
    output = small.ashwood(*command, code=2)
    assert "--workers: is missing: the number of workers of the Ray cluster is not known here" in output
    plan = ("plan", "--file", "toy.yaml", "--unit-time", "40s", "--workers", "4", "--deadline", "2h")
    assert "On 4 workers" in small.ashwood(*plan, "--out", str(small.path / "fitted.yaml"))
    assert "backend: ray" in (small.path / "fitted.yaml").read_text()
