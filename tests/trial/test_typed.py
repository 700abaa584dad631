from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from ashwood.errors import TrainingCodeError
from ashwood.trial import Trial
from tests.trial.links import ScriptedLink, make_job


class Kind(Enum):
    SGD = "sgd"


@dataclass
class Optimizer:
    kind: Kind
    betas: tuple[float, ...] = (0.9,)


@dataclass
class Config:
    lr: float
    optimizer: Optimizer
    layers: int = 2
    tags: list[str] = field(default_factory=list)


def hparams_as(**hparams: Any) -> Config:
    return Trial(make_job(Path("unused"), hparams=hparams), ScriptedLink()).hparams_as(Config)


def test_hyperparameters_as_nested_dataclasses() -> None:
    config = hparams_as(lr=1, optimizer={"kind": "sgd", "betas": [0.9, 0.99]})
    assert config == Config(1.0, Optimizer(Kind.SGD, (0.9, 0.99)))
    assert type(config.lr) is float


@pytest.mark.parametrize(
    ("hparams", "words"),
    [
        ({"lr": 1.0}, "there is no hyperparameter 'optimizer'"),
        ({"lr": 1.0, "optimizer": {"kind": "sgd"}, "layer": 2}, r"no field for .* 'layer' \(did you mean 'layers'\?\)"),
        ({"lr": 1.0, "optimizer": {"kin": "sgd"}}, r"'optimizer\.kin' \(did you mean 'kind'\?\)"),
        ({"lr": "big", "optimizer": {"kind": "sgd"}}, "'lr' must be of type float for its field, but is 'big'"),
        ({"lr": 1.0, "optimizer": {"kind": "adam"}}, r"'optimizer\.kind' must be of type Kind"),
        ({"lr": 1.0, "optimizer": {"kind": "sgd"}, "layers": True}, "'layers' must be of type int"),
    ],
)
def test_hyperparameters_that_do_not_fit_a_dataclass_are_named(hparams: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingCodeError, match=words):
        hparams_as(**hparams)


def test_hyperparameters_fit_dataclasses_only() -> None:
    with pytest.raises(TrainingCodeError, match="needs a dataclass"):
        Trial(make_job(Path("unused")), ScriptedLink()).hparams_as(dict)


def test_trial_tells_its_experiment_unit_and_longest_length() -> None:
    job = make_job(Path("unused"), max_length=64, experiment_id=3, experiment_name="tune")
    trial = Trial(job, ScriptedLink())
    assert (trial.max_length, trial.unit) == (64, "epochs")
    assert trial.experiment == (3, "tune")
