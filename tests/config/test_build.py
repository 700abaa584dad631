"""Experiments described in Python, and equal results of Python trees and files."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ashwood.config import Loaded, build_experiment, experiment_schema, parse_experiment, read_experiment, tree_of
from ashwood.config.file import ExperimentFile
from ashwood.config.searcher import SearcherSection
from ashwood.errors import ConfigError, Problem
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.search.guides import Confidence, PastTrials, Prior
from ashwood.search.plan import plan_search
from ashwood.search.settings import Sampler
from ashwood.search.space import Categorical, Const, Double, Int, Log

SEARCHER = {"name": "random", "metric": "loss", "max_trials": 3, "max_length": {"epochs": 4}}
PICKLE = Entrypoint(EntrypointKind.PICKLE, "/x/train.pickle")
VALIDATOR = Draft202012Validator(experiment_schema())


def hyperparameters(**hparams: Any) -> Mapping[str, Any]:
    tree = {"searcher": SEARCHER, "entrypoint": PICKLE, "hyperparameters": hparams}
    return build_experiment(tree, workdir=Path("/work")).spec.space.tree


class Scalar:
    """What a number of NumPy looks like."""

    shape = ()

    def item(self) -> int:
        return 7


def test_build_takes_values_maps_and_objects_at_any_depth() -> None:
    assert hyperparameters(
        a=3,
        b={"type": "int", "minval": 1, "maxval": 3},
        c=Log(-4, -1),
        d={"e": {"f": Categorical(("x", Scalar())), "g": Double(0, 1, count=3)}},
        h=(1, 2),
        i=Const({"j": (1,)}),
        k=Int(Scalar(), 9),  # type: ignore[arg-type]
        type=Int(1, 2),
    ) == {
        "a": Const(3),
        "b": Int(1, 3),
        "c": Log(-4, -1),
        "d": {"e": {"f": Categorical(("x", 7)), "g": Double(0, 1, 3)}},
        "h": Const([1, 2]),
        "i": Const({"j": [1]}),
        "k": Int(7, 9),
        "type": Int(1, 2),
    }


def starts(*settings: Any, **searcher: Any) -> Loaded:
    tree = {
        "searcher": {**SEARCHER, "start_with": settings, **searcher},
        "entrypoint": PICKLE,
        "hyperparameters": {"lr": Double(0, 1), "n": Int(1, 9), "opt": {"name": Categorical(("sgd", (1, 2)))}, "c": 3},
    }
    return build_experiment(tree, workdir=Path("/work"))


def test_starting_points_have_dotted_names_and_the_types_of_drawn_values() -> None:
    loaded = starts({"lr": Scalar(), "opt": {"name": (1, 2)}}, {"n": 3.0, "opt.name": "sgd", "c": 3})
    assert loaded.spec.start_with == ({"lr": 7.0, "opt.name": [1, 2]}, {"n": 3, "opt.name": "sgd"})
    assert loaded.warnings == ("searcher.start_with[0].lr: 7.0 is outside its range, 0 to 1; it is used as given",)


def test_single_search_takes_one_starting_point() -> None:
    single = {"name": "single", "max_trials": None}
    loaded = starts({"lr": 0.5}, **single)
    assert (loaded.spec.start_with, loaded.warnings) == (({"lr": 0.5},), ())
    with pytest.raises(ConfigError, match=r"for 2 trials, but the search creates 1: remove 1$"):
        starts({"lr": 0.5}, {"lr": 0.6}, **single)


@pytest.mark.parametrize(
    ("value", "key", "fragment"),
    [
        (Int(3, 1), "hyperparameters.x.maxval", "above minval"),
        (Categorical(()), "hyperparameters.x.vals", "at least one"),
        (Log(0, 1, base=-1), "hyperparameters.x.base", "above 0"),
        (Double(0, math.inf), "hyperparameters.x.maxval", "finite"),
        (Int(1.5, 3), "hyperparameters.x.minval", "whole number"),  # type: ignore[arg-type]
        (object(), "hyperparameters.x", "Python object"),
        ({1: 2}, "hyperparameters.x.1", "must be text, not int"),
        ([Int(1, 3)], "hyperparameters.x", "use a map"),
        ({1, 2}, "hyperparameters.x", "must be a list, whose order is fixed"),
    ],
)
def test_problems_of_python_trees_have_keys_but_no_lines(value: object, key: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as raised:
        hyperparameters(x=value)
    [problem] = raised.value.problems
    assert (problem.file, problem.line, problem.key) == (None, None, key)
    assert fragment in problem.message
    assert str(problem).startswith(f"{key}: ")


def test_recursive_tree_is_refused() -> None:
    tree: dict[str, Any] = {}
    tree["x"] = tree
    with pytest.raises(ConfigError, match="inside itself"):
        hyperparameters(a=tree)


def test_build_does_not_change_callers_tree() -> None:
    tree = {"searcher": dict(SEARCHER), "entrypoint": "a:b", "debug": True, "resources": {"priority": 3}}
    before = json.dumps(tree)
    loaded = build_experiment(tree, workdir=Path("/work"), default_seed=9)
    assert json.dumps(tree) == before
    assert (loaded.spec.name, loaded.spec.workdir, loaded.spec.seed) == ("work", "/work", 9)
    assert len(loaded.warnings) == 3


def test_build_takes_path_objects() -> None:
    tree = {"searcher": SEARCHER, "entrypoint": "a:b", "checkpoint_storage": Path("c")}
    assert build_experiment(tree, workdir=Path("/place")).spec.checkpoint_storage == "/place/c"


# -- any valid tree ------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
    lambda name: name != "type"
)
finite = st.floats(-1e6, 1e6, allow_nan=False)
constants = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | finite
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
)
counts = st.integers(1, 3)


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["int", "double", "log"]))
    bounds = st.integers(-50, 50) if kind == "int" else st.floats(-50, 50, allow_nan=False) | st.integers(-50, 50)
    low, high = sorted(draw(st.lists(bounds, min_size=2, max_size=2, unique=True)))
    if kind == "log" and 0 < low < 0.1 and high >= 100 * low:
        low = -low  # In Python, positive exponents that are probably values would be refused.
    base = draw(st.fixed_dictionaries({}, optional={"base": st.floats(1.5, 20) | st.integers(2, 20)}))
    return {"type": kind, "minval": low, "maxval": high, "count": draw(counts)} | (base if kind == "log" else {})


leaves = (
    constants
    | st.lists(constants, max_size=3)
    | ranges()
    | st.builds(
        lambda vals: {"type": "categorical", "vals": vals},
        st.lists(constants, min_size=1, max_size=3, unique_by=json.dumps),
    )
    | st.builds(lambda val: {"type": "const", "val": val}, constants)
)
spaces = st.dictionaries(
    names, st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6), max_size=4
)
lengths = st.integers(1, 10_000) | st.builds(
    lambda unit, count: {unit: count}, st.sampled_from(["batches", "records", "epochs"]), st.integers(1, 10_000)
)


@st.composite
def searchers(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(["adaptive_asha", "async_halving", "sync_halving", "random", "grid", "single"]))
    extra: dict[str, Any] = {}
    if name not in ("grid", "single"):
        extra["max_trials"] = draw(st.integers(1, 1000))
    if name in ("adaptive_asha", "async_halving", "sync_halving"):
        extra["divisor"] = draw(st.integers(2, 5) | st.floats(1.2, 5))
    if name == "adaptive_asha":
        extra["mode"] = draw(st.sampled_from(["aggressive", "standard", "conservative"]))
        extra["max_rungs"] = draw(st.integers(1, 8))
        extra["bracket_rungs"] = draw(st.just([]) | st.just([1]))
    return {"name": name, "metric": draw(names), "max_length": draw(lengths), **extra}


trees = st.fixed_dictionaries(
    {"searcher": searchers(), "entrypoint": st.sampled_from(["a:b", "x.py:f", "run it", ["run", "it"]])},
    optional={
        "hyperparameters": spaces,
        "labels": st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=5), max_size=2),
        "data": st.dictionaries(names, constants, max_size=2),
        "max_restarts": st.integers(0, 9),
        "resources": st.fixed_dictionaries({}, optional={"slots_per_trial": st.integers(0, 8)}),
        "scheduling_unit": st.integers(1, 100),
    },
)


anything = st.recursive(
    constants | st.just(math.nan) | st.sampled_from(["int", "log", "categorical", "grid", "a:b", "{x}", "epochs"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "minval", "maxval", "vals", "count", "epochs", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
PLACES = (
    [(key,) for key in ExperimentFile.declared()]
    + [("searcher", key) for key in SearcherSection.declared()]
    + [
        ("hyperparameters", "x"),
        ("hyperparameters", "global_batch_size"),
        ("environment", "environment_variables"),
        ("resources", "slots_per_trial"),
        ("checkpoint_storage", "type"),
        ("checkpoint_storage", "host_path"),
        ("checkpoint_storage", "bucket"),
        ("checkpoint_storage", "save_trial_best"),
        ("frobnicate",),
    ]
)


@settings(max_examples=400, deadline=None)
@given(tree=trees, changes=st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=3))
def test_any_mistake_raises_config_error(tree: dict[str, Any], changes: list[tuple[tuple[str, ...], Any]]) -> None:
    changed = copy.deepcopy(tree)
    for (*around, key), value in changes:
        level: Any = changed
        for name in around:
            level = level.setdefault(name, {}) if isinstance(level, dict) else None
        if isinstance(level, dict):
            level[key] = value
    outcome = built_or_problems(changed)
    if isinstance(outcome, Loaded):
        plan_search(outcome.spec.search)
    else:
        assert outcome
        assert not any("\n" in problem.message for problem in outcome)


def built_or_problems(tree: dict[str, Any]) -> Loaded | Sequence[Problem]:
    try:
        return build_experiment(tree, workdir=Path("/work"))
    except ConfigError as error:
        return error.problems


class Quoting(yaml.SafeDumper):
    """A dumper that quotes every text, because PyYAML writes some numbers of YAML 1.2, such as 0E0, without quotes."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@settings(max_examples=150, deadline=None)
@given(tree=trees, seed=st.integers(0, 2**31 - 1))
def test_valid_tree_gives_same_spec_from_python_and_file(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], seed: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "sound.yaml"
    file.write_text(yaml.dump({"name": "sound"} | tree, Dumper=Quoting, allow_unicode=True), encoding="utf-8")

    built = build_experiment({"name": "sound"} | tree, workdir=file.parent, default_seed=seed)
    read = read_experiment(file, default_seed=seed)

    assert VALIDATOR.is_valid(tree)
    assert dict(sorted(read.spec.space.leaves(), key=repr)) == dict(sorted(built.spec.space.leaves(), key=repr))
    assert read.spec.search == built.spec.search
    assert read.spec.seed == built.spec.seed == seed
    # Only in Python does a list give a warning: files of Determined use lists as constants.
    assert len(read.warnings) == len([each for each in built.warnings if "use Categorical" not in each])
    json.dumps(built.spec.space.sample(seed, 0, 0))


def test_space_of_an_experiment_can_be_written_as_a_file_and_read_again() -> None:
    hparams = {
        "opt": {"name": Categorical(("sgd", "adam")), "sgd": {"when": {"opt.name": "sgd"}, "momentum": Double(0, 1)}},
        "when": Int(1, 9, step=2),
        "width": Int(1, 1024, log=True, count=3),
        "size": Categorical(("s", "m"), ordered=True, when={"when": "> 1"}),
        "more": {"when": Const("now"), "x": Const({"a": 1}, when={"opt.name": ["adam"]})},
    }
    tree = {
        "searcher": SEARCHER,
        "entrypoint": "train:train",
        "hyperparameters": hparams,
        "constraints": ("width < 9",),
    }
    spec = build_experiment(tree, workdir=Path("/work")).spec
    assert spec.space.constraints == ("width < 9",)
    assert [".".join(path) for path, _, _ in spec.space.conditional()] == ["opt.sgd.momentum", "size", "more.x"]
    again = parse_experiment(yaml.safe_dump(tree_of(spec)), workdir=Path("/work")).spec
    assert again.space == spec.space


def test_prior_makes_density_the_default_sampler() -> None:
    leaf = Double(0, 1, prior={"value": 0.3, "confidence": "high"})
    tree = {"searcher": SEARCHER, "entrypoint": PICKLE, "hyperparameters": {"x": leaf, "y": Int(1, 9, prior=3)}}
    spec = build_experiment(tree, workdir=Path("/work")).spec
    assert [leaf.prior for _, leaf in spec.space.leaves()] == [Prior(0.3, Confidence.HIGH), Prior(3)]
    assert spec.search.sampler is Sampler.DENSITY
    grid = tree | {"searcher": {"name": "single", "metric": "loss", "max_length": 4}}
    loaded = build_experiment(grid, workdir=Path("/work"))
    assert loaded.spec.search.sampler is Sampler.RANDOM
    assert any("prior: has no effect with single" in warning for warning in loaded.warnings)


def test_warm_start_keeps_the_sources_for_the_creation_of_the_experiment() -> None:
    tree = {"searcher": SEARCHER | {"warm_start": [3, "past.csv"]}, "entrypoint": PICKLE, "hyperparameters": {}}
    spec = build_experiment(tree, workdir=Path("/work")).spec
    assert spec.warm_start == (PastTrials("3"), PastTrials("/work/past.csv"))
    assert spec.search.sampler is Sampler.DENSITY
