"""Forks: what the dashboard may change in the file of an experiment, and what it must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ashwood.config import file_of_fork, parse_experiment, read_fork
from ashwood.config.file import ExperimentFile
from ashwood.config.fork import CHANGEABLE, CHANGEABLE_IN_SEARCHER, new_texts
from ashwood.config.searcher import SearcherSection
from ashwood.errors import ConfigError
from ashwood.experiment.spec import ExperimentSpec

FILE = """\
name: digits
entrypoint: train:train
data: {path: /data}
environment: {environment_variables: [A=1]}
checkpoint_storage: {max_size: 1GB}
hyperparameters:
  lr: {type: log, minval: -5, maxval: -1}
  optimizer: {type: categorical, vals: [sgd, adam]}
searcher: {name: random, metric: loss, max_length: {epochs: 4}, max_trials: 8}
"""
WORKDIR = Path("/home/ada/my digits")


def original(text: str = FILE, **provenance: Any) -> ExperimentSpec:
    spec = parse_experiment(text, workdir=WORKDIR, name="fallback", default_seed=1).spec
    return replace(spec, provenance=provenance)


def changed(changes: Mapping[str, Any], text: str = FILE) -> str:
    """Return the file with other values; None removes a key."""
    tree = yaml.safe_load(text)
    for name, value in changes.items():
        *path, last = name.split(".")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
        if value is None:
            del inner[last]
    return yaml.safe_dump(tree)


def refusal(text: str, then: ExperimentSpec | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        read_fork(then or original(), text, default_seed=2)
    return str(raised.value)


def test_fork_takes_code_and_environment_from_the_original() -> None:
    then = original()
    text = changed(
        {
            "name": "wider",
            "description": "more",
            "labels": ["x"],
            "hyperparameters.width": {"type": "int", "minval": 1, "maxval": 9},
            "hyperparameters.optimizer.vals": ["sgd", "adam", "lion $(reboot)"],
            "constraints": ["lr * width < 1"],
            "searcher.name": "adaptive_asha",
            "searcher.max_trials": 80,
            "max_restarts": 0,
            "resources": {"slots_per_trial": 2},
        }
    )
    loaded, keys = read_fork(then, text, default_seed=2)
    spec = loaded.spec
    assert (spec.name, spec.seed, spec.search.max_trials, spec.slots_per_trial) == ("wider", 2, 80, 2)
    for name in ("entrypoint", "workdir", "environment", "data", "max_size"):
        assert getattr(spec, name) == getattr(then, name)
    assert spec.config_text == text
    assert set(keys) == {
        *("name", "description", "labels", "constraints", "max_restarts", "resources"),
        *("hyperparameters.width", "hyperparameters.optimizer", "searcher.name", "searcher.max_trials"),
    }


def test_unchanged_file_can_be_started_again() -> None:
    loaded, keys = read_fork(original(), FILE, default_seed=2)
    assert (loaded.spec.name, keys) == ("digits", [])


def test_name_of_the_original_is_the_default() -> None:
    text = changed({"name": None})
    assert read_fork(original(text), text, default_seed=2)[0].spec.name == "fallback"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("entrypoint", "other:train"),
        ("entrypoint", "rm -rf /"),
        ("entrypoint", ["train:train"]),
        ("data", {"path": "/etc"}),
        ("data", None),
        ("environment", {"environment_variables": ["LD_PRELOAD=/tmp/evil.so"]}),
        ("environment", None),
        ("backend", "ray"),
        ("store", "postgresql://elsewhere/db"),
        ("checkpoint_storage", "/etc"),
        ("checkpoint_storage", {"max_size": "2GB"}),
        ("reuse_workers", False),
        ("searcher.warm_start", ["/etc/passwd.csv"]),
        ("searcher.source_checkpoint_uuid", "/tmp/evil"),
        ("searcher.source_trial_id", "3/17"),
    ],
)
def test_other_changes_are_refused_with_the_key_and_a_command(key: str, value: object) -> None:
    message = refusal(changed({key: value}))
    assert f": {key}: a search that is started here must not change it; to run this file" in message
    assert "cd '/home/ada/my digits' && ashwood run FILE" in message


def test_all_refusals_and_their_lines_are_reported_together() -> None:
    message = refusal(FILE.replace("train:train", "evil:train").replace("/data", "/etc"))
    assert [line.partition(": a")[0] for line in message.splitlines()] == [
        "experiment file:2: entrypoint",
        "experiment file:3: data",
    ]


def test_file_that_is_wrong_is_refused_first() -> None:
    assert "unknown key" in refusal(changed({"entrypoint": "other:train", "hyperparameter": {}}))
    assert "must be a map" in refusal("- a list")


def test_experiment_that_python_described_cannot_be_forked() -> None:
    assert "described in Python" in refusal(FILE, replace(original(), config_text=""))


def test_values_of_the_command_line_belong_to_the_original() -> None:
    then = original(overrides=["entrypoint=other:train", "searcher.max_trials=3"])
    then = replace(then, entrypoint=parse_experiment(file_of_fork(then), workdir=WORKDIR).spec.entrypoint)
    text = file_of_fork(then)
    assert yaml.safe_load(text)["searcher"]["max_trials"] == 3
    assert read_fork(then, text, default_seed=2)[0].spec.entrypoint.target == "other:train"
    assert "entrypoint: a search" in refusal(FILE, then)
    assert file_of_fork(original(overrides=[])) == FILE


def test_code_that_replaced_that_of_the_file_cannot_be_undone() -> None:
    """``experiment.resume(train=…)`` changes the entrypoint of the spec, but not the file."""
    then = original()
    then = replace(then, entrypoint=replace(then.entrypoint, target="corrected:train"))
    assert "entrypoint: a search that is started here must not change it" in refusal(FILE, then)


def test_checkpoint_directory_of_the_original_does_not_count_as_a_change() -> None:
    text = changed({"checkpoint_storage": "/checkpoints"})
    then = replace(original(text), checkpoint_storage="/checkpoints/digits-20260101-000000-abcdef")
    assert read_fork(then, text, default_seed=2)[0].spec.checkpoint_storage == "/checkpoints"


def test_every_key_is_decided() -> None:
    """A new key must be added to one of the two sets."""
    fixed = {"entrypoint", "data", "environment", "backend", "store", "checkpoint_storage", "reuse_workers"}
    assert set(ExperimentFile.__annotations__) == CHANGEABLE | fixed
    named = {"warm_start", "source_trial_id", "source_checkpoint_uuid"}
    assert set(SearcherSection.__annotations__) == CHANGEABLE_IN_SEARCHER | named


# -- commands -----------------------------------------------------------------------------------------

EVIL = "$(touch pwned); touch pwned"


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --opt {optimizer}",
        "bash -c 'python train.py --opt {optimizer}'",
        'bash -c "python train.py {args}"',
        "python train.py {args}",
    ],
)
@pytest.mark.parametrize(
    "changes",
    [
        {"hyperparameters.optimizer.vals": ["sgd", EVIL]},
        {"hyperparameters.optimizer": EVIL},
        {"hyperparameters.optimizer": [["sgd", [EVIL]]]},
        {"hyperparameters.optimizer": {"type": "categorical", "vals": ["sgd", {EVIL: 1}]}},
        {"searcher.start_with": [{"optimizer": EVIL}]},
    ],
)
def test_new_text_must_not_reach_a_command(command: str, changes: dict[str, Any]) -> None:
    text = changed({"entrypoint": command})
    message = refusal(changed(changes, text), original(text))
    assert "hyperparameters.optimizer: " in message
    assert "is a new text, which the command of the entrypoint would get; to run this file" in message


@pytest.mark.parametrize("command", ["python train.py --opt {optimizer}", "python train.py {args}"])
def test_new_text_of_an_added_trial_must_not_reach_a_command(command: str) -> None:
    spec = original(changed({"entrypoint": command}))
    assert new_texts(spec, {"lr": 0.01, "optimizer": "adam"}) == {}
    problems = new_texts(spec, {"lr": 0.01, "optimizer": EVIL})
    assert problems.keys() == {"optimizer"}
    assert "is a new text, which the command of the entrypoint would get; to add this trial" in problems["optimizer"]
    assert new_texts(original(), {"optimizer": EVIL}) == {}


def test_new_name_must_not_reach_a_command() -> None:
    new = {f"hyperparameters.x{EVIL}": {"type": "double", "minval": 0, "maxval": 1}}
    text = changed({"entrypoint": "python train.py {args}"})
    assert "is a new text" in refusal(changed(new, text), original(text))
    text = changed({"entrypoint": "python train.py --lr {lr} --name {experiment.name}"})
    assert ": name: " in refusal(changed({"name": EVIL}, text), original(text))
    nested = {"hyperparameters.inner": {"a": 1}, "entrypoint": "python train.py --all {inner}"}
    text = changed(nested)
    assert "is a new text" in refusal(changed({f"hyperparameters.inner.{EVIL}": 2}, text), original(text))


def test_numbers_and_known_texts_may_reach_a_command() -> None:
    text = changed({"entrypoint": "python train.py {args} --twice {optimizer}"})
    changes = {
        "hyperparameters.lr.minval": -3,
        "hyperparameters.optimizer.vals": ["adam"],
        "searcher.start_with": [{"lr": 0.01, "optimizer": "adam"}],
    }
    loaded, _ = read_fork(original(text), changed(changes, text), default_seed=2)
    assert loaded.spec.start_with


def test_new_text_that_the_command_does_not_get_is_allowed() -> None:
    text = changed({"entrypoint": "python train.py --lr {lr}"})
    read_fork(original(text), changed({"hyperparameters.optimizer.vals": ["lion"], "name": "x"}, text), default_seed=2)
