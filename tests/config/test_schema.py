"""The JSON schema of experiment files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ashwood.config import experiment_schema, parse_experiment
from ashwood.config.document import parse
from ashwood.config.file import ExperimentFile
from ashwood.config.searcher import SearcherSection

VALIDATOR = Draft202012Validator(experiment_schema())
FILES = sorted((Path(__file__).parent / "files").glob("*.yaml"))
SOUND = """\
searcher: {name: adaptive_asha, metric: loss, max_trials: 20, max_length: {epochs: 16}}
entrypoint: train:main
hyperparameters: {lr: {type: log, minval: -4, maxval: -1}, opt: {type: {type: const, val: adam}, beta: [0.9, 0.99]}}
"""


def errors(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(parse(text).data)]


def test_schema_is_valid_json_schema() -> None:
    schema = experiment_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_determined_files_validate(file: Path) -> None:
    assert errors(file.read_text()) == []


def test_every_key_has_a_description_and_defaults_are_stated() -> None:
    schema = experiment_schema()
    searcher = schema["properties"]["searcher"]["properties"]
    for properties, model in ((schema["properties"], ExperimentFile), (searcher, SearcherSection)):
        assert set(model.declared()) <= set(properties)
        assert [key for key, each in properties.items() if not {"description", "$ref"} & set(each)] == []
    assert searcher["max_concurrent_trials"]["default"] == 16
    assert searcher["mode"]["default"] == "standard"
    assert schema["properties"]["max_restarts"]["default"] == 5


@pytest.mark.parametrize(
    "more",
    [
        "",
        "min_validation_period: 0",
        "min_validation_period: {records: 3}",
        "checkpoint_storage: here",
        "checkpoint_storage: {type: s3, bucket: b, save_trial_best: 2}",
        "environment: {environment_variables: [A=b]}",
        "environment: {environment_variables: {A: 3}}",
        "environment: {image: x}",
        "bind_mounts: []",
        "data: {a: [1, {b: null}]}",
        "constraints: [lr < 0.01]",
    ],
)
def test_sound_files_validate(more: str) -> None:
    assert errors(SOUND + more) == []


def test_conditions_steps_and_scales_validate() -> None:
    sound = SOUND.replace(
        "{lr:",
        "{n: {type: int, minval: 1, maxval: 9, step: 2}, d: {type: double, minval: 1, maxval: 9, log: true}, "
        "o: {type: categorical, vals: [a, b], ordered: true, when: {n: '> 2', opt.type: [adam]}}, "
        "group: {when: {o: a}, x: {type: const, val: 1, when: {d: '< 2'}}}, lr:",
    )
    assert errors(sound) == []
    assert parse_experiment(sound, workdir=Path("/")).warnings == ()
    for old, new in (("step: 2", "step: 0"), ("log: true", "log: 1"), ("when: {n: '> 2'", "when: [{n: 1}], x: {a: 1")):
        assert errors(sound.replace(old, new)) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_trials", "max_trails"),
        ("adaptive_asha", "adaptiv_asha"),
        ("epochs", "epoch"),
        ("type: log", "type: lgo"),
        ("minval: -4, ", ""),
        ("minval: -4", "minval: low"),
        ("entrypoint", "entrypont"),
        ("metric: loss, ", ""),
        ("max_trials: 20, ", ""),
        ("max_trials: 20", "max_trials: '20'"),
        ("max_trials: 20", "max_trials: 0"),
        (", max_length: {epochs: 16}", ""),
        ("{epochs: 16}", "{epochs: 16, batches: 3}"),
        ("entrypoint", "labls: []\nentrypoint"),
        ("entrypoint", "resources: {slot_per_trial: 3}\nentrypoint"),
    ],
)
def test_typos_do_not_validate(old: str, new: str) -> None:
    assert old in SOUND
    assert errors(SOUND.replace(old, new, 1)) != []


def test_schema_round_trips_through_json_and_yaml() -> None:
    schema: dict[str, Any] = experiment_schema()
    assert yaml.safe_load(yaml.safe_dump(schema)) == schema
