"""Reading ``backend`` and ``resources``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ashwood.config import build_experiment, experiment_schema, parse_size, read_experiment
from ashwood.errors import ConfigError
from ashwood.experiment.spec import Demand, ExperimentSpec, RayCluster

LEAST = """\
searcher: {name: random, metric: loss, max_trials: 20, max_length: 16}
entrypoint: train:main
hyperparameters: {x: {type: int, minval: 1, maxval: 30}}
"""
VALIDATOR = Draft202012Validator(experiment_schema())


def read(directory: Path, text: str, *overrides: str) -> tuple[ExperimentSpec, tuple[str, ...]]:
    file = directory / "search.yaml"
    file.write_text(LEAST + text)
    loaded = read_experiment(file, overrides=overrides)
    return loaded.spec, loaded.warnings


def problems(directory: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(directory, text, *overrides)
    assert all(problem.line is not None or problem.file == "--set" for problem in caught.value.problems)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


FULL = """\
backend:
  type: ray
  address: 10.0.0.1:6379
  runtime_env: {pip: [torch], env_vars: {A: b}}
  ship_code: false
  autoscales: true
"""


@pytest.mark.parametrize(
    ("text", "ray"),
    [
        ("", None),
        ("backend:", None),
        ("backend: local", None),
        ("backend: {type: local}", None),
        ("backend: {type: local, address: null}", None),
        ("backend: ray", RayCluster()),
        ("backend: {type: ray, address: null, runtime_env: null, ship_code: null}", RayCluster()),
        ("backend: {type: ray, address: 'ray://head:10001'}", RayCluster("ray://head:10001")),
        (FULL, RayCluster("10.0.0.1:6379", {"pip": ["torch"], "env_vars": {"A": "b"}}, False, True)),
    ],
)
def test_backend_is_read_in_all_spellings(tmp_path: Path, text: str, ray: RayCluster | None) -> None:
    spec, warnings = read(tmp_path, text)
    assert (spec.ray, warnings) == (ray, ())
    tree: dict[str, Any] = yaml.safe_load(LEAST + text)
    assert build_experiment(tree, workdir=tmp_path).spec.ray == ray
    if "null" not in text and text != "backend:":
        assert list(VALIDATOR.iter_errors(tree)) == []


@pytest.mark.parametrize(
    ("text", "overrides", "ray"),
    [
        ("", ["backend=ray"], RayCluster()),
        ("backend: ray", ["backend=local"], None),
        (FULL, ["backend=local"], None),
        ("", ["backend.type=ray"], RayCluster()),
        ("backend: local", ["backend.type=ray", "backend.address=a:1"], RayCluster("a:1")),
        ("backend: ray", ["backend.address=a:1"], RayCluster("a:1")),
        (FULL, ["backend.address=a:1"], RayCluster("a:1", {"pip": ["torch"], "env_vars": {"A": "b"}}, False, True)),
        ("backend: ray", ["backend.runtime_env.pip=[torch]"], RayCluster(runtime_env={"pip": ["torch"]})),
    ],
)
def test_overrides_replace_backend_of_file(
    tmp_path: Path, text: str, overrides: list[str], ray: RayCluster | None
) -> None:
    assert read(tmp_path, text, *overrides)[0].ray == ray


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("backend: rya", 'backend: "rya" isn\'t a backend (local or ray); did you mean "ray"?'),
        ("backend: 3", "backend: 3 isn't a backend (local or ray)"),
        ("backend: ray://head:10001", "backend: is the name of a backend, not an address: write {type: ray, address: "),
        ("backend: {address: 'a:1'}", "backend.type: is missing: local or ray"),
        ("backend: {type: dask}", 'backend.type: "dask" isn\'t a backend'),
        ("backend: {type: ray, adress: 'a:1'}", "backend.adress: unknown key; did you mean address?"),
        ("backend: {type: ray, x: 1}", "backend.x: unknown key; known keys here: address, autoscales"),
        ("backend: {type: local, address: 'a:1'}", "backend.address: is for ray, not for local: remove it"),
        ("backend: {type: ray, address: 3}", "backend.address: must be text"),
        ("backend: {type: ray, address: ' '}", "backend.address: must not be empty"),
        (
            "backend: {type: ray, address: 'http://a:8265'}",
            "backend.address: must be the address of the cluster's head",
        ),
        ("backend: {type: ray, runtime_env: [pip]}", "backend.runtime_env: must be a map"),
        (
            "backend: {type: ray, runtime_env: {working_dir: .}}",
            "backend.runtime_env.working_dir: can't be set here: Ashwood sends the work directory itself",
        ),
        ("backend: {type: ray, runtime_env: {py_modules: []}}", "backend.runtime_env.py_modules: can't be set here"),
        ("backend: {type: ray, ship_code: 1}", "backend.ship_code: must be true or false"),
        ("backend: {type: ray, autoscales: 'yes'}", "backend.autoscales: must be true or false"),
    ],
)
def test_backend_mistake_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    (message,) = problems(tmp_path, text)
    assert message.startswith(problem)
    beyond_a_schema = "http" in text or "' '" in text or "local" in text
    assert beyond_a_schema or list(VALIDATOR.iter_errors(yaml.safe_load(LEAST + text))) != []


def test_unknown_backend_is_a_single_problem(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "backend: rya\nresources: {gpus_per_trial: 0.5, custom_resources: {tpu: 1}}")) == 1


# -- resources -----------------------------------------------------------------------------------

ON_RAY = "backend: ray\nresources: "


@pytest.mark.parametrize(
    ("resources", "slots", "demand"),
    [
        ("{}", 1, Demand()),
        ("{slots_per_trial: 8}", 8, Demand()),
        ("{slots_per_trial: 0}", 1, Demand(gpus=0)),
        ("{gpus_per_trial: 0.5}", 1, Demand(gpus=0.5)),
        ("{gpus_per_trial: 2, cpus_per_trial: 7}", 2, Demand(cpus=7, gpus=2)),
        ("{gpus_per_trial: 0, cpus_per_trial: 1.5}", 1, Demand(cpus=1.5, gpus=0)),
        ("{cpus_per_trial: 4}", 1, Demand(cpus=4)),
        ("{slots_per_trial: 2, cpus_per_trial: 16}", 2, Demand(cpus=16)),
        ("{gpus_per_trial: 0.25, slots_per_trial: 1}", 1, Demand(gpus=0.25)),
        ("{memory_per_trial: 8GB}", 1, Demand(memory=8_000_000_000)),
        ("{memory_per_trial: 512MiB}", 1, Demand(memory=2**29)),
        ("{memory_per_trial: 1000}", 1, Demand(memory=1000)),
        ("{custom_resources: {tpu: 1, license: 0.5}}", 1, Demand(custom={"tpu": 1, "license": 0.5})),
    ],
)
def test_resources_on_ray_give_slots_and_demand(tmp_path: Path, resources: str, slots: int, demand: Demand) -> None:
    spec, warnings = read(tmp_path, ON_RAY + resources)
    assert (spec.slots_per_trial, spec.demand, warnings) == (slots, demand, ())
    assert list(VALIDATOR.iter_errors(yaml.safe_load(LEAST + ON_RAY + resources))) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ON_RAY + "{gpus_per_trial: 1.5}", "resources.gpus_per_trial: must be a whole number of GPUs"),
        (ON_RAY + "{gpus_per_trial: -1}", "resources.gpus_per_trial: must be at least 0"),
        (ON_RAY + "{gpus_per_trial: .inf}", "resources.gpus_per_trial: must be a finite number"),
        (ON_RAY + "{gpus_per_trial: true}", "resources.gpus_per_trial: must be a number"),
        (ON_RAY + "{gpus_per_trial: 0.5, slots_per_trial: 2}", "resources.slots_per_trial: is 2, but gpus_per_trial "),
        (
            ON_RAY + "{gpus_per_trial: 0, cpus_per_trial: 0}",
            "resources.cpus_per_trial: is 0, and a trial takes no other resource",
        ),
        (ON_RAY + "{memory_per_trial: lots}", "resources.memory_per_trial: must be bytes, or text such as 8GB"),
        (ON_RAY + "{memory_per_trial: true}", "resources.memory_per_trial: must be bytes"),
        (ON_RAY + "{memory_per_trial: 0}", "resources.memory_per_trial: must be bytes"),
        (ON_RAY + "{custom_resources: {tpu: many}}", "resources.custom_resources.tpu: must be a number"),
        (ON_RAY + "{custom_resources: {tpu: 0}}", "resources.custom_resources.tpu: must be above 0"),
        (
            ON_RAY + "{custom_resources: {GPU: 1}}",
            "resources.custom_resources.GPU: can't be set here: write",
        ),
        (
            "resources: {gpus_per_trial: 0.5}",
            "resources.gpus_per_trial: must be a whole number, not 0.5: a fraction",
        ),
        ("resources: {cpus_per_trial: 1.5}", "resources.cpus_per_trial: must be a whole number, not 1.5"),
        ("resources: {custom_resources: {tpu: 1}}", "resources.custom_resources: needs backend: ray"),
    ],
)
def test_resources_mistake_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    (message,) = problems(tmp_path, text)
    assert message.startswith(problem)


def test_memory_on_one_machine_is_a_warning(tmp_path: Path) -> None:
    spec, warnings = read(tmp_path, "resources: {memory_per_trial: 8GB, gpus_per_trial: 2}")
    assert len(warnings) == 1
    assert "has no effect" in warnings[0]
    # The spec still records the memory, because the experiment can be resumed on a cluster.
    assert (spec.slots_per_trial, spec.demand) == (2, Demand(gpus=2, memory=8_000_000_000))


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("12", 12), ("0", None), ("8 PB", None), ("", None)]
)
def test_parse_size(text: str, size: int | None) -> None:
    assert parse_size(text) == size


# -- lost workers --------------------------------------------------------------------------------


def test_max_preemptions_has_default_and_lower_bound(tmp_path: Path) -> None:
    assert read(tmp_path, "")[0].max_preemptions == 20
    assert read(tmp_path, "max_preemptions: 0")[0].max_preemptions == 0
    (message,) = problems(tmp_path, "max_preemptions: -1")
    assert message == "max_preemptions: must be at least 0, not -1"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("", 100_000_000),
        ("max_log_size: null", 100_000_000),
        ("max_log_size: 0", None),
        ("max_log_size: 0 MB", None),
        ("max_log_size: 100 kB", 100_000),
        ("max_log_size: 1GiB", 2**30),
        ("max_log_size: 250000", 250_000),
    ],
)
def test_max_log_size_is_read(tmp_path: Path, size: str, expected: int | None) -> None:
    spec, warnings = read(tmp_path, size)
    assert (spec.max_log_size, warnings) == (expected, ())
    if "null" not in size:
        assert list(VALIDATOR.iter_errors(yaml.safe_load(LEAST + size))) == []


@pytest.mark.parametrize(("size", "expected"), [("null", None), ("200GB", 200 * 10**9), ("2 GiB", 2**31), ("40", 40)])
def test_max_size_of_checkpoints_is_read(tmp_path: Path, size: str, expected: int | None) -> None:
    text = f"checkpoint_storage: {{max_size: {size}}}"
    spec, warnings = read(tmp_path, text)
    assert (spec.max_size, spec.checkpoint_storage, warnings) == (expected, None, ())
    assert size == "null" or list(VALIDATOR.iter_errors(yaml.safe_load(LEAST + text))) == []


def test_wrong_max_size_of_checkpoints_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_size: must be a size such as 200 GB, in bytes, not 0"):
        read(tmp_path, "checkpoint_storage: {max_size: 0}")


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ("99 kB", "max_log_size: must be at least 100 kB, or 0 for no limit, not 99 kB"),
        ("-1", "max_log_size: must be a size such as 100 MB, in bytes, or 0 for no limit, not -1"),
        ("true", "max_log_size: must be a size such as 100 MB"),
        ("much", "max_log_size: must be a size such as 100 MB"),
        (".nan", "max_log_size: must be a size such as 100 MB"),
        ("[1]", "max_log_size: must be a size such as 100 MB"),
    ],
)
def test_wrong_max_log_size_is_reported(tmp_path: Path, size: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, f"max_log_size: {size}")
    assert problem in str(raised.value).replace('"', "")
