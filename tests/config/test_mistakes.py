"""Mistakes in spaces and searchers that would give a wrong result if they were not reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ashwood.config import build_experiment, parse_experiment
from ashwood.errors import ConfigError
from ashwood.search.space import Categorical, Double, Int, Log

SEARCHER = {"name": "random", "metric": "loss", "max_length": 4, "max_trials": 4}


def build(hparams: dict[str, Any], **searcher: Any) -> tuple[str, ...]:
    tree = {"entrypoint": "t:train", "hyperparameters": hparams, "searcher": {**SEARCHER, **searcher}}
    return build_experiment(tree, workdir=Path("/")).warnings


def parse(searcher: str, hparams: str = "{x: {type: double, minval: 0, maxval: 1}}") -> tuple[str, ...]:
    text = f"entrypoint: t:train\nhyperparameters: {hparams}\nsearcher: {{{searcher}}}\n"
    return parse_experiment(text, workdir=Path("/")).warnings


BASE = "name: random, max_length: 4, max_trials: 4"


@pytest.mark.parametrize(
    "metric", ["accuracy", "val_acc", "validation/AUC", "eval-f1", "mean reward", "r2", "top1.precision", "mAP"]
)
def test_metric_that_sounds_larger_is_better_needs_direction(metric: str) -> None:
    (warning,) = parse(f"{BASE}, metric: {metric}")
    assert "set smaller_is_better: false" in warning
    assert parse(f"{BASE}, metric: {metric}, smaller_is_better: true") == ()
    assert parse(f"{BASE}, metric: {metric}, smaller_is_better: false") == ()


@pytest.mark.parametrize("metric", ["loss", "accuracy_loss", "reward error", "scores", "mapping", "macro", "returned"])
def test_other_metrics_give_no_warning(metric: str) -> None:
    assert parse(f"{BASE}, metric: {metric}") == ()


def test_loss_with_larger_is_better_is_a_warning() -> None:
    (warning,) = parse(f"{BASE}, metric: val_loss, smaller_is_better: false")
    assert "sounds like a metric for which smaller is better" in warning


@pytest.mark.parametrize("key", ["direction: maximize", "objective: max", "goal: minimize", "mode: max"])
def test_direction_keys_of_other_tools_give_advice(key: str) -> None:
    with pytest.raises(ConfigError, match="smaller_is_better: false"):
        parse(f"name: adaptive_asha, max_length: 4, max_trials: 4, metric: loss, {key}")


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (Categorical({"sgd", "adam"}), "must be a list, whose order is fixed, not a set"),  # type: ignore[arg-type]
        (Categorical("relu"), r'must be a list, not "relu": write \[relu\]'),
        (Categorical(["a", "b", "a"]), r'"a" is given twice'),
        (Log(1e-4, 1e-1), "minval and maxval of log are exponents.*write minval: -4, maxval: -1"),
    ],
)
def test_space_mistake_is_refused(leaf: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"x": leaf, "y": Double(0, 1)})


def test_values_that_differ_in_type_are_different_choices() -> None:
    assert build({"x": Categorical([1, True, "1", None]), "y": Double(0, 1)}) == ()


def test_log_bounds_that_look_like_values_are_a_warning_in_files() -> None:
    leaf = "{x: {type: log, minval: 0.0001, maxval: 0.1}}"
    (warning,) = parse(f"{BASE}, metric: loss", leaf)
    assert "write minval: -4, maxval: -1" in warning


def test_list_of_values_is_a_constant() -> None:
    (warning,) = build({"x": [0.1, 0.01], "y": Double(0, 1)})
    assert "use Categorical" in warning
    assert parse(f"{BASE}, metric: loss", "{x: [1, 2], y: {type: double, minval: 0, maxval: 1}}") == ()


def test_fewer_settings_than_trials_is_a_warning() -> None:
    (warning,) = build({"x": Categorical(["a", "b", "c"])})
    assert "max_trials: is 4, but the hyperparameters have only 3 different settings" in warning
    assert build({"x": Categorical(["a", "b"]), "y": Categorical(["a", "b"])}) == ()


def test_two_hyperparameters_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two hyperparameters called"):
        build({"opt.lr": Double(0, 1), "opt": {"lr": Double(0, 1)}})


def test_maxval_that_no_step_meets_is_a_warning() -> None:
    (warning,) = build({"x": Int(1, 10, step=4), "y": Double(0, 1)})
    assert "10 is never drawn: with step 4 from 1, the largest value is 9" in warning
    assert build({"x": Double(0.1, 0.7, step=0.1)}) == ()
