"""Commands of Determined AI: what to use instead, and the commands that Ashwood has for those who come from there."""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import ashwood
from ashwood.cli.determined import NOUNS, OTHERS, advice_for
from ashwood.cli.main import app
from ashwood.config import build_experiment, parse_experiment, tree_of
from ashwood.engine import open_home

from .conftest import GATED, RANDOM, Workplace, go

PAGE = Path(__file__).parents[2] / "docs" / "determined-commands.md"


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("experiment create const.yaml .", "use: ashwood run const.yaml (training code is imported from the directory"),
        ("e create const.yaml .", "use: ashwood run const.yaml"),
        ("create -f const.yaml .", "use: ashwood run const.yaml"),
        (
            "e create --config searcher.max_trials=9 --template t const.yaml . -f",
            "use: ashwood run const.yaml --set searcher.max_trials=9 (training code",
        ),
        (
            "e create const.yaml . --config=name=a --config max_restarts=0",
            "const.yaml --set name=a --set max_restarts=0",
        ),
        ("experiment continue 3", "use: ashwood resume 3 --retry-failed (ashwood extend ID --max-length N trains"),
        ("trial logs --tail 5 17", "use: ashwood logs ID 17 (trials"),
        ("experiment wait 3", "use: ashwood wait 3"),
        ("experiment list-trials 3", "use: ashwood trials 3"),
        ("list-trials 3", "use: ashwood trials 3"),
        ("e lt 3", "use: ashwood trials 3"),
        ("e lc 3", "use: ashwood checkpoints 3"),
        ("experiment set max-slots 3 4", "use: ashwood set 3 max_concurrent_trials=4"),
        ("experiment label add 3 good", "use: ashwood label 3 good"),
        ("experiment label remove 3 good", "use: ashwood label 3 --remove good"),
        ("experiment download-model-def 3", "Ashwood does not store training code"),
        ("experiment", "commands of Ashwood have no experiment before them, as in: ashwood list"),
        ("experiment frobnicate 3", "replacements are known for create, list, describe"),
        ("trial logs 17", "use: ashwood logs ID 17 (trials are numbered in each experiment"),
        ("t kill 17", "use: ashwood kill ID --trial 17"),
        ("checkpoint download 0f1e", "use: ashwood download ID --trial TRIAL --out DIR"),
        ("det preview-search const.yaml", "leave out det: use: ashwood preview-search const.yaml"),
        ("det e config 3", "use: ashwood config 3"),
        ("agent list", "Ashwood has no master"),
        ("rp list", "resource-pool is a command of Determined, not of Ashwood; Ashwood has no master"),
        ("m list", "model is a command of Determined, not of Ashwood; Ashwood has no model registry"),
        ("version", "use: ashwood --version"),
    ],
)
def test_command_of_determined_says_what_to_use(workplace: Workplace, line: str, advice: str) -> None:
    found = advice_for(line.split())
    assert found is not None
    assert advice in found
    printed = " ".join(workplace.ashwood(*line.split(), code=2).replace("│", " ").split())
    assert " ".join(advice.split())[:60] in printed


def test_typing_mistake_still_gets_the_nearest_command(workplace: Workplace) -> None:
    assert "Did you mean 'wait'" in workplace.ashwood("wiat", "3", code=2)
    assert advice_for(["wiat", "3"]) is None
    assert advice_for([]) is None


def test_every_replacement_is_a_command() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    words = [command.instead.split() for noun in NOUNS.values() for command in noun.values() if not command.is_text]
    assert {word[1] for word in words} <= {*commands}
    assert not {*NOUNS, *OTHERS} & {*commands}


def test_page_maps_every_command() -> None:
    page = PAGE.read_text()
    for noun, commands in NOUNS.items():
        for verb, command in commands.items():
            assert f"`det {noun} {verb}" in page, f"det {noun} {verb}"
            if not command.is_text:
                assert f"`{command.instead}`" in page, command.instead
    for other in OTHERS:
        assert f"`det {other}" in page, other


# -- commands ---------------------------------------------------------------------------------------


@pytest.fixture
def done(workplace: Workplace) -> Workplace:
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2", "--set", "searcher.max_trials=3")
    return workplace


def test_wait_returns_the_exit_code_of_the_run(done: Workplace) -> None:
    assert "experiment 1 completed" in done.ashwood("wait", "1")
    done.write(train="def train(trial):\n    1 / 0\n")
    done.ashwood("run", "toy.yaml", "--workers", "1", "--set", "max_restarts=0", code=1)
    done.ashwood("wait", "2", code=1)


def test_wait_waits_for_a_running_experiment(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    with workplace.driving("run", "toy.yaml", "--workers", "1"), workplace.start("wait", "1") as waiting:
        assert waiting.poll() is None
        go(workplace)
        out, _ = waiting.communicate()
    assert waiting.returncode == 0
    assert "experiment 1 completed" in out


def test_wait_for_a_paused_experiment_ends_with_its_code(workplace: Workplace) -> None:
    workplace.write(RANDOM, GATED)
    with workplace.driving("run", "toy.yaml", "--workers", "1"):
        workplace.ashwood("pause", "1")
        go(workplace)
        assert "paused" in workplace.ashwood("wait", "1", code=3)


def test_wait_does_not_wait_for_what_nobody_drives(workplace: Workplace) -> None:
    with open_home(str(workplace.path / ".ashwood"), create=True) as home:
        spec = parse_experiment(RANDOM, workdir=workplace.path).spec
        home.store.create(spec, at=1.0)
    assert "has not started; to start it: ashwood resume 1" in workplace.ashwood("wait", "1", code=1)
    workplace.ashwood("wait", "7", code=1)


def test_logs_of_all_trials_come_newest_first(done: Workplace) -> None:
    printed = done.ashwood("logs", "1")
    headings = [line for line in printed.splitlines() if line.startswith("===")]
    assert headings == [f"=== trial {trial}, completed ===" for trial in (2, 1, 0)]
    assert printed.count("epoch 0") == printed.count("epoch 1") == 3
    short = done.ashwood("logs", "1", "--tail", "1")
    assert short.count("epoch 1") == 3
    assert "epoch 0" not in short
    assert done.ashwood("logs", "1", "2", "--tail", "1") == "epoch 1\n"
    assert "needs the number of a trial" in done.ashwood("logs", "1", "--follow", code=2)


def test_tail_longer_than_the_log_is_the_whole_log(done: Workplace) -> None:
    assert done.ashwood("logs", "1", "0", "--tail", "99") == done.ashwood("logs", "1", "0")


def test_config_prints_the_file_with_values_of_the_command_line(done: Workplace) -> None:
    text = done.ashwood("config", "1")
    header = "# The experiment file, with values of the command line:\n#   --set searcher.max_trials=3\n"
    assert text.startswith(header)
    assert yaml.safe_load(text)["searcher"]["max_trials"] == 3
    with open_home(str(done.path / ".ashwood")) as home:
        spec = home.store.spec(1)
    read = parse_experiment(text, workdir=done.path).spec
    assert (read.search, read.space, read.metric) == (spec.search, spec.space, spec.metric)
    done.ashwood("run", "toy.yaml", "--workers", "2")
    assert done.ashwood("config", "2") == RANDOM


def test_config_of_python_is_a_file_with_the_same_search(workplace: Workplace) -> None:
    workplace.write(train="def train(trial):\n    return trial.hparams.x\n")
    hparams: dict[str, Any] = {"x": ashwood.Double(0, 1), "n": {"deep": ashwood.Categorical(["a", "b"])}}
    searcher = ashwood.RandomSearch(metric="loss", max_length={"epochs": 2}, max_trials=4)
    with contextlib.chdir(workplace.path):
        experiment = ashwood.create("train:train", hparams=hparams, searcher=searcher, home=".ashwood")
    text = workplace.ashwood("config", str(experiment.id))
    assert text.startswith("# The experiment was described in Python.\n")
    read = parse_experiment(text, workdir=workplace.path).spec
    assert (read.search, read.space, read.seed) == (experiment.spec.search, experiment.spec.space, experiment.spec.seed)


@pytest.mark.parametrize(
    "searcher",
    [
        {"name": "adaptive_asha", "max_length": {"epochs": 64}, "max_trials": 50, "mode": "auto"},
        {"name": "adaptive_asha", "max_length": 64, "max_trials": 50, "mode": "auto", "audit": 0},
        {"name": "async_halving", "max_length": 64, "max_trials": 50, "audit": 0.15},
        {"name": "adaptive_asha", "max_length": 64, "max_trials": 50, "divisor": 2.5, "stop_once": True},
        {"name": "adaptive_asha", "max_length": 64, "max_trials": 50, "bracket_rungs": [3, 2]},
        {"name": "sync_halving", "max_length": {"batches": 64}, "max_trials": 50, "num_rungs": 2},
        {"name": "random", "max_trials": 5, "start_with": [{"lr": 0.01, "deep.n": 3}, {"deep": {"n": 4}}]},
        {"name": "random", "max_trials": 5, "stop_when": {"metric_at": 0.5, "max_time": 60}},
        {"name": "grid", "max_length": {"records": 64}, "max_concurrent_trials": 0},
    ],
    ids=lambda searcher: str(searcher)[:60],
)
def test_tree_of_an_experiment_reads_as_the_same_experiment(tmp_path: Path, searcher: dict[str, Any]) -> None:
    tree = {
        "name": "x",
        "description": "what it is about",
        "labels": ["a"],
        "data": {"path": "/data", "sizes": (1, 2)},
        "entrypoint": "train:train",
        "hyperparameters": {
            "lr": {"type": "log", "minval": -4, "maxval": -1, "count": 3},
            "map": {"type": "const", "val": {"type": "free"}},
            "none": None,
            "deep": {"n": {"type": "int", "minval": 1, "maxval": 9, "count": 2}},
        },
        "searcher": {"metric": "loss", **searcher},
        "min_checkpoint_period": 5 if searcher.get("max_length") == 64 else None,
        "checkpoint_policy": "all",
        "max_trial_time": 60,
        "resources": {"slots_per_trial": 2},
        "environment": {"environment_variables": ["A=b"]},
        "reproducibility": {"experiment_seed": 3},
    }
    spec = build_experiment(tree, workdir=tmp_path).spec
    text = yaml.safe_dump(tree_of(spec), sort_keys=False)
    again = parse_experiment(text, workdir=tmp_path).spec
    assert again == replace(spec, config_text=text, data=again.data)
    assert again.data == {"path": "/data", "sizes": [1, 2]}


def test_several_experiments_are_described(done: Workplace) -> None:
    done.ashwood("run", "toy.yaml", "--workers", "2", "--set", "searcher.max_trials=2")
    printed = done.ashwood("describe", "1,2")
    assert printed.index("experiment 1 ") < printed.index("experiment 2 ")
    assert [each["id"] for each in done.json("describe", "2,1,2")] == [2, 1]
    assert [each["id"] for each in done.json("describe", "2", "1")] == [2, 1]
    assert done.json("describe", "2")["id"] == 2
    assert "there is no experiment '1,x'" in done.ashwood("describe", "1,x", code=1)


def test_unarchive_undoes_archive(done: Workplace) -> None:
    done.ashwood("archive", "1")
    assert done.json("list") == []
    assert "ashwood list shows it again" in done.ashwood("unarchive", "1")
    assert [each["id"] for each in done.json("list")] == [1]


def test_list_as_csv(done: Workplace) -> None:
    done.ashwood("label", "1", "good, but old")
    done.ashwood("archive", "1")
    [row] = csv.DictReader(io.StringIO(done.ashwood("list", "--all", "--csv")))
    assert (row["id"], row["name"], row["state"], row["done"], row["trials"]) == ("1", "toy", "completed", "1.0", "3")
    assert (row["labels"], row["archived"]) == ("good, but old", "true")
    assert float(row["best"]) > 0
    assert done.ashwood("list", "--csv").splitlines() == [
        "id,name,state,done,trials,best,created,labels,archived,metric,search,seconds,replicates"
    ]
    assert "one of --csv and --json" in done.ashwood("list", "--csv", "--json", code=2)


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("max_slots=4", "write max_concurrent_trials=4, which counts trials; ashwood resume 1 --workers 4 limits"),
        ("max-slots=4", "write max_concurrent_trials=4"),
        ("max_slots", "write max_concurrent_trials=N"),
        ("priority=40", "Ashwood has no scheduler"),
        ("name=better", "use: ashwood rename 1 NAME"),
        ("max_trails=40", "did you mean max_trials?"),
    ],
)
def test_setting_of_determined_says_what_to_use(done: Workplace, setting: str, advice: str) -> None:
    assert advice in done.ashwood("set", "1", setting, code=2)


def test_preview_needs_only_the_searcher(workplace: Workplace) -> None:
    (workplace.path / "search.yaml").write_text(
        "searcher: {name: adaptive_asha, metric: loss, max_length: {epochs: 64}, max_trials: 20}\n"
    )
    assert "20 trials, each up to 64 epochs" in workplace.ashwood("preview-search", "search.yaml")
    assert "entrypoint: is missing" in workplace.ashwood("preview-search", "search.yaml", "--measure", code=2)


def test_preview_without_length_counts_trials(workplace: Workplace) -> None:
    (workplace.path / "search.yaml").write_text("searcher: {name: random, metric: loss, max_trials: 20}\n")
    printed = workplace.ashwood("preview-search", "search.yaml")
    assert "20 trials, each of any length, 16 at once" in printed
    assert "a trial ends when its code returns" in printed
    timed = workplace.ashwood("preview-search", "search.yaml", "--unit-time", "10min", "--workers", "4")
    assert "10 min 00 s for 1 trial on average" in timed
    shown = workplace.json("preview-search", "search.yaml")
    assert (shown["unit"], shown["total_trials"], shown["settings"]["max_length"]) == ("trials", 20, None)
    for option in (["--measure"], ["--like", "1"]):
        refused = workplace.ashwood("preview-search", "search.yaml", *option, "--set", "entrypoint=a:b", code=2)
        assert "the time of a whole trial with --unit-time" in refused


def test_plan_and_check_of_a_file_without_length_ask_for_one(workplace: Workplace) -> None:
    workplace.write(RANDOM.replace("max_length: {epochs: 2}, ", ""))
    budget = ["--file", "toy.yaml", "--unit-time", "1s", "--workers", "2", "--deadline", "1h"]
    assert "give --max-length" in workplace.ashwood("plan", *budget, code=1)
    assert "adaptive_asha" in workplace.ashwood("plan", *budget, "--max-length", "9")
    assert "say how long the check trains" in workplace.ashwood("check", "toy.yaml", code=1)
    workplace.write(
        train="def train(trial):\n"
        "    length = int((trial.checkpoint / 'n').read_text()) if trial.checkpoint else 0\n"
        "    while not trial.should_stop:\n"
        "        length += 1\n"
        "        save = lambda d: (d / 'n').write_text(str(length))\n"
        "        trial.report(loss=trial.hparams.x / length, length=length, checkpoint=save)\n"
    )
    assert "equal" in workplace.ashwood("check", "toy.yaml", "--length", "4")


def test_describe_and_watch_of_a_search_without_length(workplace: Workplace) -> None:
    workplace.write(RANDOM.replace("max_length: {epochs: 2}, ", ""), "def train(trial):\n    return trial.hparams.x\n")
    run = workplace.ashwood("run", "toy.yaml", "--workers", "1", "--json")
    assert '"target": null' in run
    events = workplace.ashwood("events", "1", "--json")
    described = workplace.ashwood("describe", "1")
    assert "6 trials of any length" in described
    assert "100% done" in described
    assert "the end" in described
    assert "6 finished" in described
    assert workplace.json("describe", "1")["brackets"][0]["rungs"][0]["length"] is None
    assert "6 finished" in workplace.ashwood("watch", "1", "--once")
    assert "its training code returned" in workplace.ashwood("events", "1")
    assert workplace.ashwood("trials", "1").count("completed") == 6
    workplace.ashwood("report", "1", "--out", "report.html")
    report = (workplace.path / "report.html").read_text()
    assert "each of any length" in report
    for output in (run, events, described, report):
        assert str(1 << 62) not in output
