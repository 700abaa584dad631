"""Overrides of the command line: ``--set KEY=VALUE``."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashwood.config import Loaded, in_its_section, parse_hparams, read_experiment
from ashwood.errors import ConfigError
from ashwood.experiment.spec import Unit
from ashwood.search.settings import Method
from ashwood.search.space import Const, Log

TEXT = """\
searcher: {name: adaptive_asha, metric: loss, max_trials: 20, max_length: {epochs: 16}, mode: standard}
entrypoint: train:main
hyperparameters: {opt: {lr: {type: log, minval: -4, maxval: -1}}}
"""


def read(tmp_path: Path, *overrides: str) -> Loaded:
    file = tmp_path / "a.yaml"
    file.write_text(TEXT)
    return read_experiment(file, overrides=overrides)


def test_override_values_are_yaml_and_replace_those_of_file(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        "searcher.max_trials=50",
        "searcher.max_length={batches: 7}",
        "resources.slots_per_trial=2",
        "hyperparameters.opt.lr.minval=-1e1",
        "hyperparameters.opt.momentum=0.9",
        "name=a=b",
        "searcher.max_trials=60",
    ).spec
    assert (spec.search.max_trials, spec.search.max_length, spec.unit) == (60, 7, Unit.BATCHES)
    assert (spec.slots_per_trial, spec.name) == (2, "a=b")
    assert spec.space.tree == {"opt": {"lr": Log(-10, -1), "momentum": Const(0.9)}}
    assert spec.config_text == TEXT


def test_empty_override_removes_key(tmp_path: Path) -> None:
    spec = read(tmp_path, "searcher.mode=", "searcher.name=random").spec
    assert spec.search.method is Method.RANDOM


@pytest.mark.parametrize(
    ("override", "key", "fragment"),
    [
        ("searcher.max_trials", "", "must read KEY=VALUE"),
        ("=5", "", "must read KEY=VALUE"),
        ("searcher..max_trials=5", "", "must read KEY=VALUE"),
        ("searcher.max_trials=[", "searcher.max_trials", "never closed"),
        ("searcher.max_trials=0", "searcher.max_trials", "at least 1"),
        ("searcher.max_trails=5", "searcher.max_trails", "did you mean max_trials?"),
        ("searcher.metric.name=5", "searcher.metric.name", "searcher.metric isn't a map"),
        ("searcher.max_length.epochs=0", "searcher.max_length.epochs", "at least 1"),
        ("seacher.max_trials=5", "seacher", "did you mean searcher?"),
        ("hyperparameters.opt.lr={type: log, minval: 3, maxval: 1}", "hyperparameters.opt.lr.maxval", "above minval"),
    ],
)
def test_bad_override_is_reported_as_set_option(tmp_path: Path, override: str, key: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, override)
    [problem] = raised.value.problems
    assert (problem.file, problem.line, problem.key) == ("--set", None, key)
    assert fragment in problem.message


def test_problems_of_file_and_overrides_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, "searcher.max_trials=0", "oops", "searcher.name=random")
    assert [problem.file == "--set" for problem in raised.value.problems] == [False, True, True]
    assert raised.value.problems[0].key == "searcher.mode"


def test_parse_hparams_returns_nested_values() -> None:
    assert parse_hparams(["lr=1e-3", "opt.name=sgd", "opt.nesterov=true", "layers=[1, 2]"]) == {
        "lr": 0.001,
        "opt": {"name": "sgd", "nesterov": True},
        "layers": [1, 2],
    }


def test_parse_hparams_reports_all_problems() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_hparams(["lr", "opt.name=[1", "n=2", "n.x=3"])
    assert [str(problem) for problem in raised.value.problems] == [
        'add-trial: "lr" must read KEY=VALUE, for example lr=0.1',
        'add-trial: opt.name: "[1": not valid YAML: a [, { or quote that is never closed',
        "add-trial: n.x: n isn't a map, so nothing can be set inside it: set n as a whole",
    ]


def test_key_without_its_section_is_set_in_its_section() -> None:
    assert in_its_section(("max_trials",)) == ("searcher", "max_trials")
    assert in_its_section(("metric_at",)) == ("searcher", "stop_when", "metric_at")
    assert in_its_section(("max_time",)) == ("searcher", "stop_when", "max_time")
    assert in_its_section(("max_size",)) == ("checkpoint_storage", "max_size")
    assert in_its_section(("name",)) == ("name",)
    assert in_its_section(("unknown",)) == ("unknown",)
    assert in_its_section(("searcher", "max_trials")) == ("searcher", "max_trials")
