"""Spaces of Optuna, Ray Tune and ConfigSpace become hyperparameters, conditions and constraints of Ashwood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ashwood import spaces
from ashwood.config import build_experiment
from ashwood.errors import AshwoodError
from ashwood.search.space import Categorical, Const, Double, Int, Space


def space_of(converted: dict[str, Any]) -> Space:
    """Return the space of an experiment with converted hyperparameters, which are checked like any others."""
    searcher = {"name": "random", "metric": "loss", "max_length": 1, "max_trials": 2}
    tree = {"entrypoint": "train:train", "searcher": searcher, "hyperparameters": converted["hparams"]}
    return build_experiment(tree | {"constraints": converted["constraints"]}, workdir=Path("/")).spec.space


# -- Optuna ------------------------------------------------------------------------------------


def test_optuna_distributions_are_converted() -> None:
    optuna = pytest.importorskip("optuna.distributions")
    converted = spaces.from_optuna(
        {
            "lr": optuna.FloatDistribution(1e-5, 1e-1, log=True),
            "momentum": optuna.FloatDistribution(0.0, 0.9),
            "dropout": optuna.FloatDistribution(0.0, 0.5, step=0.1),
            "layers": optuna.IntDistribution(1, 8),
            "batch": optuna.IntDistribution(8, 64, step=8),
            "width": optuna.IntDistribution(1, 1024, log=True),
            "opt": optuna.CategoricalDistribution(("sgd", None)),
            "one": optuna.CategoricalDistribution((3,)),
            "fixed": optuna.FloatDistribution(0.5, 0.5),
        }
    )
    assert converted["hparams"] == {
        "lr": Double(1e-5, 1e-1, log=True),
        "momentum": Double(0.0, 0.9),
        "dropout": Double(0.0, 0.5, step=0.1),
        "layers": Int(1, 8),
        "batch": Int(8, 64, step=8),
        "width": Int(1, 1024, log=True),
        "opt": Categorical(["sgd", None]),
        "one": Const(3),
        "fixed": Const(0.5),
    }
    assert space_of(converted).sample(0, 0, 0)["one"] == 3


def test_what_is_no_optuna_distribution_is_refused() -> None:
    with pytest.raises(AshwoodError, match="cannot convert the hyperparameter 'x': 3: use FloatDistribution"):
        spaces.from_optuna({"x": 3})


# -- Ray Tune ----------------------------------------------------------------------------------


def test_ray_domains_are_converted() -> None:
    tune = pytest.importorskip("ray.tune")
    converted = spaces.from_ray(
        {
            "lr": tune.loguniform(1e-5, 1e-1),
            "momentum": tune.uniform(0.0, 0.9),
            "dropout": tune.quniform(0.0, 0.5, 0.1),
            "model": {
                "layers": tune.randint(1, 9),
                "batch": tune.qrandint(8, 64, 8),
                "width": tune.lograndint(1, 1025),
                "x": tune.quniform(0, 3, 1),
            },
            "opt": tune.choice(["sgd", "adam"]),
            "grid": tune.grid_search([1, 2]),
            "epochs": 10,
            "quantized": tune.qrandint(2, 5, 1),
        }
    )
    assert converted["hparams"] == {
        "lr": Double(1e-5, 1e-1, log=True),
        "momentum": Double(0.0, 0.9),
        "dropout": Double(0.0, 0.5, step=0.1),
        "model": {
            "layers": Int(1, 8),
            "batch": Int(8, 64, step=8),
            "width": Int(1, 1024, log=True),
            "x": Double(0, 3, step=1),
        },
        "opt": Categorical(["sgd", "adam"]),
        "grid": Categorical([1, 2]),
        "epochs": 10,
        "quantized": Int(2, 5),
    }
    assert space_of(converted).sample(0, 0, 0)["epochs"] == 10


def test_ray_domain_that_cannot_be_converted_is_named() -> None:
    tune = pytest.importorskip("ray.tune")
    for domain, what in (
        (tune.randn(0, 1), r"Float \(Normal\)"),
        (tune.qloguniform(1e-3, 1.0, 1e-3), r"Float \(LogUniform\)"),
        (tune.sample_from(lambda spec: 1), "Function"),
        (tune.choice([1, tune.uniform(0, 1)]), "Categorical"),
    ):
        with pytest.raises(AshwoodError, match=rf"cannot convert the hyperparameter 'a\.b': {what}"):
            spaces.from_ray({"a": {"b": domain}})


def test_ray_domain_in_a_list_is_named() -> None:
    tune = pytest.importorskip("ray.tune")
    domain = tune.uniform(0, 1)
    for value, where in (
        ([1, domain], r"a\.b\[1\]': Float"),
        ((1, {"c": [domain]}), r"a\.b\[1\]\.c\[0\]': Float"),
        ([{"c": tune.grid_search([1, 2])}], r"a\.b\[0\]\.c': grid_search"),
    ):
        with pytest.raises(AshwoodError, match=rf"cannot convert the hyperparameter '{where}: a domain in a list"):
            spaces.from_ray({"a": {"b": value}})
    assert spaces.from_ray({"a": [1, {"c": 2}]})["hparams"] == {"a": [1, {"c": 2}]}


# -- ConfigSpace -------------------------------------------------------------------------------


def test_configspace_is_converted_with_conditions_and_forbidden_clauses() -> None:
    cs = pytest.importorskip("ConfigSpace")
    space = cs.ConfigurationSpace(
        {
            "opt": cs.CategoricalHyperparameter("opt", ["sgd", "adam", "none"], default_value="none"),
            "lr": cs.UniformFloatHyperparameter("lr", 1e-5, 1.0, log=True),
            "layers": (1, 8),
            "width": cs.UniformIntegerHyperparameter("width", 1, 1024, log=True),
            "size": cs.OrdinalHyperparameter("size", ["s", "m", "l"], default_value="m"),
            "a:b": (0.0, 1.0),
            "k": 3,
            "beta": (0.0, 1.0),
            "gamma": (0.0, 1.0),
            "delta": (0.0, 1.0),
        }
    )
    space.add(cs.EqualsCondition(space["a:b"], space["opt"], "sgd"))
    space.add(
        cs.AndConjunction(
            cs.InCondition(space["beta"], space["opt"], ["sgd", "adam"]),
            cs.GreaterThanCondition(space["beta"], space["layers"], 2),
        )
    )
    space.add(cs.GreaterThanCondition(space["gamma"], space["size"], "s"))
    space.add(
        cs.OrConjunction(
            cs.EqualsCondition(space["delta"], space["opt"], "sgd"),
            cs.NotEqualsCondition(space["delta"], space["opt"], "sgd"),
        )
    )
    space.add(
        cs.ForbiddenAndConjunction(
            cs.ForbiddenEqualsClause(space["opt"], "sgd"), cs.ForbiddenInClause(space["size"], ["s", "l"])
        )
    )
    space.add(cs.ForbiddenGreaterThanRelation(space["a:b"], space["lr"]))
    converted = spaces.from_configspace(space)
    assert converted["hparams"] == {
        "opt": Categorical(["sgd", "adam", "none"]),
        "lr": Double(1e-5, 1.0, log=True),
        "layers": Int(1, 8),
        "width": Int(1, 1024, log=True),
        "size": Categorical(["s", "m", "l"], ordered=True),
        "a:b": Double(0.0, 1.0, when={"opt": "sgd"}),
        "k": Const(3),
        "beta": Double(0.0, 1.0, when={"opt": ["sgd", "adam"], "layers": "> 2"}),
        "gamma": Double(0.0, 1.0, when={"size": ["m", "l"]}),
        "delta": Double(0.0, 1.0, when={"opt": ["sgd", "adam", "none"]}),
    }
    assert converted["constraints"] == [
        "not ((opt == 'sgd') and (size in ['s', 'l']))",
        "not (hparams['a:b'] > lr)",
    ]
    for index in range(40):
        values = space_of(converted).sample(0, 0, index)
        cs.Configuration(space, values=values).check_valid_configuration()


def test_configspace_that_cannot_be_converted_is_named() -> None:
    cs = pytest.importorskip("ConfigSpace")
    for hyperparameter in (
        cs.NormalFloatHyperparameter("x", 0.5, 0.1, lower=0.0, upper=1.0),
        cs.CategoricalHyperparameter("x", ["a", "b"], weights=[1, 2]),
    ):
        with pytest.raises(AshwoodError, match="cannot convert the hyperparameter 'x'"):
            spaces.from_configspace(cs.ConfigurationSpace({"x": hyperparameter}))
    space = cs.ConfigurationSpace({"a": (1, 9), "b": (1, 9), "x": (1, 9)})
    space.add(
        cs.OrConjunction(cs.EqualsCondition(space["x"], space["a"], 1), cs.EqualsCondition(space["x"], space["b"], 1))
    )
    with pytest.raises(AshwoodError, match=r"'x': .* an or may only join values of one hyperparameter"):
        spaces.from_configspace(space)
