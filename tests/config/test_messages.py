"""Messages about wrong files: line, key, expected value and suggestion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ashwood.config import parse_experiment, read_experiment
from ashwood.errors import ConfigError

SOUND = """\
searcher: {name: random, metric: loss, max_trials: 20, max_length: {epochs: 16}}
entrypoint: train:main
hyperparameters: {lr: 0.1, opt: {a: 1, b: 2}}
"""


def with_searcher(fields: str) -> str:
    return f"entrypoint: train:main\nsearcher: {{{fields}}}\n"


def asha(fields: str = "") -> str:
    return with_searcher(f"name: adaptive_asha, metric: loss, max_trials: 20, max_length: {{epochs: 16}}, {fields}")


def with_length(length: str) -> str:
    return with_searcher(f"name: random, metric: loss, max_trials: 20, {length}")


def halving(fields: str, name: str = "async_halving") -> str:
    return with_searcher(f"name: {name}, metric: loss, max_length: 16, {fields}")


def with_hparam(text: str) -> str:
    return with_length("max_length: 16") + f"hyperparameters:\n  {text}\n"


def started(starts: str, search: str = "name: random, max_trials: 2") -> str:
    lr, n = "{type: double, minval: 0, maxval: 1, count: 2}", "{type: int, minval: 1, maxval: 4, count: 2}"
    opt = "{name: {type: categorical, vals: [sgd, adam]}}"
    return (
        "entrypoint: train:main\n"
        f"hyperparameters: {{lr: {lr}, n: {n}, opt: {opt}, batch: 32}}\n"
        f"searcher:\n  <<: {{{search}, metric: loss, max_length: 4}}\n"
        f"  start_with:\n    {starts}\n"
    )


def as_grid(text: str) -> str:
    return with_hparam(text).replace("max_trials: 20, ", "").replace("random", "grid")


def with_entrypoint(text: str) -> str:
    return SOUND.replace("train:main", text)


def with_condition(when: str, kind: str = "type: double, minval: 0, maxval: 1") -> str:
    ranges = "o: {type: categorical, vals: [sgd, adam]}\n  n: {type: int, minval: 1, maxval: 8}\n  c: 3"
    return with_hparam(f"{ranges}\n  g: {{lr: {{type: log, minval: -4, maxval: -1}}}}\n  x: {{{kind}, when: {when}}}")


def with_constraint(text: str) -> str:
    return with_condition("{o: sgd}") + f'  top-k: 3\nconstraints: [n > 0, "{text}"]\n'


# text -> line, key, fragments of the message
UNREADABLE = {
    "": (1, "", ["is empty"]),
    "# nothing but this\n": (1, "", ["is empty"]),
    "- a\n": (1, "", ["must be a map"]),
    "just text\n": (1, "", ["must be a map"]),
    "a: [1,\n": (1, "", ["never closed"]),
    "name: 'x\n": (1, "", ["never closed"]),
    "a: 1\nb: c: d\n": (2, "", ["not valid YAML", "needs quotes", "b: c: d"]),
    "a:\n\tb: 1\n": (2, "", ["tab", "spaces"]),
    "a: 1\n---\nb: 2\n": (2, "", ["several documents"]),
    "a: &x [*x]\n": (1, "", ["inside its own anchor"]),
    "a: &x {<<: *x}\n": (1, "", ["into itself"]),
    "a: *nope\n": (1, "", ["undefined alias 'nope'"]),
    "a: 1\nb: {<<: 3}\n": (2, "", ["<< merges maps"]),
    "a: 1\n? [b]\n: 2\n": (2, "", ["can't be a key"]),
    "a: 1\nb: \x07\n": (2, "", ["control character \\x07"]),
    "a: " + "[" * 150 + "]" * 150: (1, "", ["100 levels deep"]),
    "a: " + "[" * 20000: (1, "", ["100 levels deep"]),
}

IN_THE_TEXT = {
    SOUND + "name: a\nlabels: []\nname: b\n": (6, "name", ["given twice", "line 4"]),
    SOUND + "1: x\n": (4, "1", ["is a number", 'write "1" in quotes']),
    SOUND.replace("lr:", "on:"): (3, "hyperparameters.on", ["true or false", 'write "on" in quotes']),
    SOUND + "data: !!python/object:os.system {}\n": (4, "data", ["tag !!python/object:os.system"]),
    SOUND + "data: {a: !!int x}\n": (4, "data.a", ["isn't a number"]),
}

UNKNOWN_KEYS = {
    SOUND + "labls: [a]\n": (4, "labls", ["unknown key", "did you mean labels?"]),
    SOUND + "Name: x\n": (4, "Name", ["did you mean name?"]),
    SOUND + "max-restarts: 3\n": (4, "max-restarts", ["did you mean max_restarts?"]),
    SOUND + "max_trials: 5\n": (4, "max_trials", ["wrong place", "searcher.max_trials"]),
    SOUND + "resource_pool: a\n": (4, "resource_pool", ["wrong place", "resources.resource_pool"]),
    SOUND + "max_trails: 5\n": (4, "max_trails", ["did you mean searcher.max_trials?"]),
    SOUND + "frobnicate: 5\n": (4, "frobnicate", ["unknown key", "searcher", "max_restarts"]),
    SOUND + "reproducibility: {seed: 1}\n": (4, "reproducibility.seed", ["did you mean experiment_seed?"]),
    SOUND + "environment: {vars: [A=1]}\n": (4, "environment.vars", ["environment_variables"]),
    asha("max_restarts: 3"): (2, "searcher.max_restarts", ["wrong place", "max_restarts, at the top"]),
    asha("maxRungs: 3"): (2, "searcher.maxRungs", ["did you mean max_rungs?"]),
}

WRONG_TYPES = {
    SOUND + "labels: a\n": (4, "labels", ["must be a list", '"a"', "write [a]"]),
    SOUND + "labels:\n  - a\n  - 3\n": (6, "labels[1]", ["must be text, not 3", 'write "3" in quotes']),
    SOUND + "name: 2024\n": (4, "name", ['write "2024" in quotes']),
    SOUND + "name: ''\n": (4, "name", ["must not be empty"]),
    SOUND + "description: [a]\n": (4, "description", ["must be text, not a list"]),
    SOUND + "data: [1]\n": (4, "data", ["must be a map", "not a list"]),
    SOUND + "max_restarts: -1\n": (4, "max_restarts", ["at least 0, not -1"]),
    SOUND + "max_restarts: '5'\n": (4, "max_restarts", ["must be a whole number", "write 5 without quotes"]),
    SOUND + "max_restarts: true\n": (4, "max_restarts", ["must be a whole number, not true"]),
    SOUND + "max_restarts: 1e1\n": (4, "max_restarts", ["write 10"]),
    SOUND + "max_common_failures: -1\n": (4, "max_common_failures", ["at least 0, not -1"]),
    SOUND + "max_common_failures: never\n": (4, "max_common_failures", ["must be a whole number"]),
    SOUND + "max_restarts: 2.5\n": (4, "max_restarts", ["must be a whole number, not 2.5"]),
    SOUND + "records_per_epoch: many\n": (4, "records_per_epoch", ["must be a whole number", '"many"']),
    SOUND + "resources: 3\n": (4, "resources", ["must be a map"]),
    SOUND + "resources: {slots_per_trial: 0.5}\n": (4, "resources.slots_per_trial", ["whole number, not 0.5"]),
    SOUND.replace("{lr: 0.1, opt: {a: 1, b: 2}}", "5"): (3, "hyperparameters", ["must be a map"]),
    "searcher: random\nentrypoint: a:b\n": (1, "searcher", ["must be a map"]),
    asha("stop_once: 'true'"): (2, "searcher.stop_once", ["true or false", "write true without quotes"]),
    asha("stop_once: 1"): (2, "searcher.stop_once", ["must be true or false, not 1"]),
}

OTHER_SECTIONS = {
    SOUND + "resources: {slots_per_trial: 2, gpus_per_trial: 1}\n": (
        4,
        "resources.slots_per_trial",
        ["is 2, but gpus_per_trial is 1", "remove one of the two"],
    ),
    SOUND + "reproducibility:\n  experiment_seed: -1\n": (5, "reproducibility.experiment_seed", ["at least 0"]),
    SOUND + "reproducibility:\n  experiment_seed: 2147483648\n": (
        5,
        "reproducibility.experiment_seed",
        ["at most 2147483647"],
    ),
    SOUND + "environment:\n  environment_variables:\n    - A=1\n    - FOO\n": (
        7,
        "environment.environment_variables[1]",
        ['"NAME=value"', '"FOO"'],
    ),
    SOUND + "environment: {environment_variables: [5]}\n": (
        4,
        "environment.environment_variables[0]",
        ["must be text"],
    ),
    SOUND + "environment: {environment_variables: ['A B=1']}\n": (
        4,
        "environment.environment_variables[0]",
        ['"A B" can\'t be the name'],
    ),
    SOUND + "environment: {environment_variables: {A: true}}\n": (
        4,
        "environment.environment_variables.A",
        ['write "true" in quotes'],
    ),
    SOUND + "environment: {environment_variables: A=1}\n": (4, "environment.environment_variables", ["must be a list"]),
    SOUND + "checkpoint_storage: {type: s3, bucket: b, secret_key: abc}\n": (
        4,
        "checkpoint_storage.secret_key",
        ["must not be in the file", "set AWS_SECRET_ACCESS_KEY in the environment"],
    ),
    SOUND + "checkpoint_storage: {type: azure, container: c, connection_string: abc}\n": (
        4,
        "checkpoint_storage.connection_string",
        ["set AZURE_STORAGE_CONNECTION_STRING"],
    ),
    SOUND + "checkpoint_storage: {type: s3, prefix: p}\n": (4, "checkpoint_storage.bucket", ["is missing"]),
    SOUND + "checkpoint_storage: {type: s3, buckt: b}\n": (4, "checkpoint_storage.buckt", ["did you mean bucket?"]),
    SOUND + "checkpoint_storage: {type: gcs, bucket: 3}\n": (4, "checkpoint_storage.bucket", ["must be text"]),
    SOUND + "checkpoint_storage: {type: s3, bucket: b, prefix: a/../b}\n": (
        4,
        "checkpoint_storage.prefix",
        ["must not contain .."],
    ),
    SOUND + "checkpoint_storage: {type: hdfs, hdfs_url: x}\n": (4, "checkpoint_storage.type", ["hdfs://host:port"]),
    SOUND + "checkpoint_storage: memory://x\n": (4, "checkpoint_storage", ["do not share their memory"]),
    SOUND + "checkpoint_storage: https://host/x\n": (4, "checkpoint_storage", ["cannot save files", "endpoint_url"]),
    SOUND + "checkpoint_storage: s4://b/x\n": (4, "checkpoint_storage", ['"s4"', "scheme"]),
    SOUND + "checkpoint_storage: s3://\n": (4, "checkpoint_storage", ["the name of a bucket"]),
    SOUND + "checkpoint_storage: s3://AKIA:abc@b/x\n": (
        4,
        "checkpoint_storage",
        ["not contain a password", "environment"],
    ),
    SOUND + "checkpoint_storage: s3://b?secret=abc\n": (
        4,
        "checkpoint_storage",
        ["must not contain secret", "AWS_SECRET_ACCESS_KEY"],
    ),
    SOUND + "checkpoint_storage: {save_trial_best: -1}\n": (
        4,
        "checkpoint_storage.save_trial_best",
        ["at least 0, not -1"],
    ),
    SOUND + "checkpoint_storage: {save_trial_latest: true}\n": (
        4,
        "checkpoint_storage.save_trial_latest",
        ["must be a whole number, not true"],
    ),
    SOUND + "checkpoint_storage: {save_experiment_best: '2'}\n": (
        4,
        "checkpoint_storage.save_experiment_best",
        ["write 2 without quotes"],
    ),
    SOUND + "store: 5\n": (4, "store", ["must be text"]),
    SOUND + "store: /data/ashwood\n": (4, "store", ["postgresql://HOST/DATABASE", "--home"]),
    SOUND + "store: mysql://me:secret@there/db\n": (4, "store", ["not mysql://…"]),
    SOUND + "store: 'postgresql://[::1/db'\n": (4, "store", ["is not a URL"]),
    SOUND + "checkpoint_storage: {host_path: /a}\n": (4, "checkpoint_storage.type", ["is missing"]),
    SOUND + "checkpoint_storage: {save_trial_bset: 1}\n": (
        4,
        "checkpoint_storage.save_trial_bset",
        ["did you mean save_trial_best?"],
    ),
    SOUND + "checkpoint_storage: {type: shared_sf, host_path: /a}\n": (
        4,
        "checkpoint_storage.type",
        ['did you mean "shared_fs"?'],
    ),
    SOUND + "checkpoint_storage: {type: shared_fs}\n": (4, "checkpoint_storage.host_path", ["is missing"]),
    SOUND + "checkpoint_storage: {type: shared_fs, hostpath: /a}\n": (
        4,
        "checkpoint_storage.hostpath",
        ["did you mean host_path?"],
    ),
    SOUND + "checkpoint_storage: {type: directory, container_path: 3}\n": (
        4,
        "checkpoint_storage.container_path",
        ["must be a directory, not 3"],
    ),
    SOUND + "checkpoint_storage: {type: shared_fs, host_path: /a, storage_path: ../b}\n": (
        4,
        "checkpoint_storage.storage_path",
        ["inside /a"],
    ),
    SOUND + "checkpoint_storage: {type: shared_fs, host_path: /a, storage_path: /b}\n": (
        4,
        "checkpoint_storage.storage_path",
        ["inside /a"],
    ),
    SOUND + "checkpoint_storage: ''\n": (4, "checkpoint_storage", ["must not be empty"]),
    SOUND + "checkpoint_storage: 5\n": (4, "checkpoint_storage", ["must be a directory or a URL, not 5"]),
}

LENGTHS = {
    with_length("max_lenght: 5"): (2, "searcher.max_lenght", ["did you mean max_length?"]),
    with_length("max_length: 0"): (2, "searcher.max_length", ["at least 1, not 0"]),
    with_length("max_length: '8'"): (2, "searcher.max_length", ["write 8 without quotes"]),
    with_length("max_length: 1e3"): (2, "searcher.max_length", ["write 1000"]),
    with_length("max_length: 5 epochs"): (2, "searcher.max_length", ["write {epochs: 5}"]),
    with_length("max_length: true"): (2, "searcher.max_length", ["must be a length", "{epochs: n}", "not true"]),
    with_length("max_length: [1]"): (2, "searcher.max_length", ["must be a length"]),
    with_length("max_length: {}"): (2, "searcher.max_length", ["exactly one unit"]),
    with_length("max_length: {epochs: 1, batches: 2}"): (2, "searcher.max_length", ["exactly one unit", "not 2"]),
    with_length("max_length: {epoch: 1}"): (2, "searcher.max_length.epoch", ["did you mean epochs?"]),
    with_length("max_length: {steps: 1}"): (2, "searcher.max_length.steps", ["batches, records or epochs"]),
    with_length("max_length: {epochs: 0.5}"): (2, "searcher.max_length.epochs", ["count records or batches"]),
    with_length("max_length: {epochs: -1}"): (2, "searcher.max_length.epochs", ["at least 1, not -1"]),
    with_length("max_length: 99999999999999999"): (2, "searcher.max_length", ["at most"]),
    with_length("max_epochs: 5"): (2, "searcher.max_epochs", ["write max_length: {epochs: 5}"]),
    with_length("epochs: 5"): (2, "searcher.epochs", ["write max_length: {epochs: 5}"]),
    with_length("target_trial_steps: 5"): (2, "searcher.target_trial_steps", ["max_length: {batches: 500}"]),
    with_length("budget: 5"): (2, "searcher.budget", ["max_trials and max_length"]),
    with_length("max_time: 3"): (2, "searcher.time_metric", ["is missing", "write max_length: {epochs: 3}"]),
    with_length("time_metric: epochs"): (2, "searcher.max_time", ["is missing", "write max_length: {epochs: n}"]),
    with_length("time_metric: epochs, max_time: {epochs: 3}"): (2, "searcher.max_time", ["whole number, not a map"]),
    asha("time_metric: epochs, max_time: 3"): (2, "searcher.max_time", ["contradicts max_length", "{epochs: 16}"]),
    asha("time_metric: batches, max_time: 16"): (2, "searcher.max_time", ["contradicts max_length", "{epochs: 16}"]),
    asha("time_metric: batches"): (2, "searcher.time_metric", ["contradicts max_length", "remove one of the two"]),
    with_length("max_length: 16, max_time: 8, time_metric: epochs"): (2, "searcher.max_time", ["which is 16"]),
    with_searcher("name: custom, unit: batches, metric: a").replace("custom", "single"): (
        2,
        "searcher.unit",
        ["unknown key", "write the unit in max_length: {batches: n}"],
    ),
    SOUND + "min_validation_period: {batches: 3}\n": (
        4,
        "min_validation_period",
        ["counts batches, max_length epochs", "records_per_epoch: n", "global_batch_size: n"],
    ),
    SOUND + "min_validation_period: {records: 3}\n": (4, "min_validation_period", ["records_per_epoch: n"]),
    SOUND + "min_checkpoint_period: 3\n": (4, "min_checkpoint_period", ["a bare number", "can't be converted"]),
    SOUND + "min_checkpoint_period: {epochs: -3}\n": (4, "min_checkpoint_period.epochs", ["at least 0"]),
    SOUND.replace("lr: 0.1", "global_batch_size: {type: double, minval: 1, maxval: 9}")
    + "records_per_epoch: 9\nmin_validation_period: {batches: 3}\n": (
        3,
        "hyperparameters.global_batch_size",
        ["whole numbers of at least 1"],
    ),
    SOUND.replace("lr: 0.1", "global_batch_size: {type: int, minval: 0, maxval: 9}")
    + "records_per_epoch: 9\nmin_validation_period: {batches: 3}\n": (
        3,
        "hyperparameters.global_batch_size",
        ["whole numbers of at least 1"],
    ),
}

SEARCHER = {
    asha("warm_start: 3"): (2, "searcher.warm_start", ["must be a list"]),
    asha("warm_start: [x.txt]"): (2, "searcher.warm_start[0]", ['ID of an experiment or a .csv file, not "x.txt"']),
    asha("warm_start: [3, a.csv, 4, 3]"): (2, "searcher.warm_start[3]", ["3 is already in the list: remove it"]),
    asha("warm_start: [a.csv, ./a.csv]"): (2, "searcher.warm_start[1]", ["./a.csv is already in the list"]),
    asha("warm_start: [3], sampler: random"): (2, "searcher.warm_start", ["needs sampler: density", "remove sampler"]),
    "entrypoint: a:b\n": (1, "searcher", ["is missing", "max_length"]),
    "searcher:\nentrypoint: a:b\n": (1, "searcher", ["is missing"]),
    "searcher: {name: single, metric: a, max_length: 1}\n": (1, "entrypoint", ["is missing", "module:function"]),
    with_searcher("metric: a, max_length: 3"): (2, "searcher.name", ["is missing", "adaptive_asha", "single"]),
    with_searcher("name: single, max_length: 3"): (2, "searcher.metric", ["is missing"]),
    with_searcher("name: adaptive_asha, metric: a, max_trials: 3"): (
        2,
        "searcher.max_length",
        ["is missing", "{epochs: n}"],
    ),
    with_searcher("name: random, metric: a, max_length: 3"): (2, "searcher.max_trials", ["is missing"]),
    with_searcher("name: adaptiv_asha, metric: a, max_length: 3"): (
        2,
        "searcher.name",
        ["isn't a search method", "grid", 'did you mean "adaptive_asha"?'],
    ),
    with_searcher("name: adaptive_simple, metric: a, max_length: 3"): (2, "searcher.name", ["use adaptive_asha"]),
    with_searcher("name: adaptive, metric: a, max_length: 3"): (2, "searcher.name", ["use adaptive_asha"]),
    with_searcher("name: pbt, metric: a, max_length: 3"): (2, "searcher.name", ["use adaptive_asha"]),
    with_searcher("name: custom, metric: a, max_length: 3"): (2, "searcher.name", ["use adaptive_asha"]),
    with_searcher("name: [grid], metric: a, max_length: 3"): (2, "searcher.name", ["a list isn't a search method"]),
    with_searcher("name: single, metric: 5, max_length: 3"): (2, "searcher.metric", ["must be text", '"5"']),
    asha("mode: aggresive"): (2, "searcher.mode", ['"aggresive"', 'did you mean "aggressive"?']),
    asha("mode: fast"): (2, "searcher.mode", ["aggressive, standard, conservative or auto"]),
    asha("divisor: 1"): (2, "searcher.divisor", ["above 1, not 1"]),
    asha("divisor: .inf"): (2, "searcher.divisor", ["finite"]),
    asha("divisor: '4'"): (2, "searcher.divisor", ["write 4 without quotes"]),
    asha("divisor: true"): (2, "searcher.divisor", ["must be a number, not true"]),
    asha("divisor: 1.0001"): (2, "searcher.divisor", ["too close to 1", "use 1.004 or more"]),
    asha("max_rungs: 0"): (2, "searcher.max_rungs", ["at least 1"]),
    asha("bracket_rungs: [3, 4]"): (2, "searcher.bracket_rungs[1]", ["from 1 to 3, not 4", "max_length 16"]),
    asha("bracket_rungs: [0]"): (2, "searcher.bracket_rungs[0]", ["from 1 to 3, not 0"]),
    asha("bracket_rungs: 3"): (2, "searcher.bracket_rungs", ["write [3]"]),
    asha("replicates: -1"): (2, "searcher.replicates", ["at least 0", "-1"]),
    with_length("replicates: 3"): (2, "searcher.replicates", ["needs max_length", "remove replicates"]),
    asha("max_concurrent_trials: -1"): (2, "searcher.max_concurrent_trials", ["at least 0"]),
    asha("num_rungs: 3"): (2, "searcher.num_rungs", ["for async_halving or sync_halving", "not for adaptive_asha"]),
    asha("population_size: 3"): (2, "searcher.population_size", ["population-based"]),
    halving("max_trials: 100, num_rungs: 0"): (2, "searcher.num_rungs", ["at least 1"]),
    halving("max_trials: 9, mode: standard"): (2, "searcher.mode", ["is for adaptive_asha, not for async_halving"]),
    halving("max_trials: 9, max_rungs: 2"): (2, "searcher.max_rungs", ["is for adaptive_asha"]),
    halving("max_trials: 9, stop_once: true", "sync_halving"): (2, "searcher.stop_once", ["not for sync_halving"]),
    halving("max_trials: 9, divisor: 3", "random"): (2, "searcher.divisor", ["not for random"]),
    halving("max_trials: 9", "single"): (2, "searcher.max_trials", ["one trial", "use random"]),
    halving("max_concurrent_trials: 9", "single"): (2, "searcher.max_concurrent_trials", ["not for single"]),
    asha("audit: 1"): (2, "searcher.audit", ["must be below 1, not 1"]),
    asha("audit: -0.1"): (2, "searcher.audit", ["at least 0"]),
    asha("audit: 3%"): (2, "searcher.audit", ["a number"]),
    asha("audit: 0.1, stop_once: true"): (2, "searcher.audit", ["stop_once: true pauses none", "remove audit or"]),
    halving("max_trials: 9, audit: 0.1", "sync_halving"): (2, "searcher.audit", ["not for sync_halving", "remove it"]),
    halving("max_trials: 9, audit: 0.1", "random"): (2, "searcher.audit", ["not for random"]),
    halving("audit: 0.1", "grid"): (2, "searcher.audit", ["not for grid"]),
    halving("audit: 0.1", "single"): (2, "searcher.audit", ["not for single"]),
    asha("source_trial_id: 17"): (2, "searcher.source_trial_id", ["EXPERIMENT/17", "3/17", "numbers its own trials"]),
    asha("source_trial_id: abc"): (2, "searcher.source_trial_id", ["EXPERIMENT/TRIAL"]),
    asha("source_trial_id: 3/4, source_checkpoint_uuid: x"): (
        2,
        "searcher.source_checkpoint_uuid",
        ["remove one of the two"],
    ),
    asha("source_checkpoint_uuid: 0f3e4a5b-0000-1111-2222-333344445555"): (
        2,
        "searcher.source_checkpoint_uuid",
        ["Determined", "directory"],
    ),
}

STOP_WHEN = {
    asha("stop_when: {}"): (2, "searcher.stop_when", ["metric_at or max_time"]),
    asha("stop_when: 0.98"): (2, "searcher.stop_when", ["must be a map"]),
    asha("stop_when: {metric_at: high}"): (2, "searcher.stop_when.metric_at", ["must be a number"]),
    asha("stop_when: {metric_at: .nan}"): (2, "searcher.stop_when.metric_at", ["finite"]),
    asha("stop_when: {metric_ta: 3}"): (2, "searcher.stop_when.metric_ta", ["did you mean metric_at?"]),
    asha("stop_when: {max_time: soon}"): (2, "searcher.stop_when.max_time", ["duration above 0", "2h", '"soon"']),
    asha("stop_when: {max_time: 2 weeks}"): (2, "searcher.stop_when.max_time", ["duration above 0"]),
    asha("stop_when: {max_time: 0}"): (2, "searcher.stop_when.max_time", ["above 0", "not 0"]),
    asha("stop_when: {max_time: true}"): (2, "searcher.stop_when.max_time", ["not true"]),
    asha("stop_when: {max_time: [1]}"): (2, "searcher.stop_when.max_time", ["not a list"]),
    asha("metric_at: 0.9"): (2, "searcher.metric_at", ["wrong place", "searcher.stop_when.metric_at"]),
    asha("max_time: 2h"): (2, "searcher.max_time", ["time_metric", "stop_when: {max_time: 2h}"]),
    asha("max_time: 60"): (2, "searcher.max_time", ["contradicts max_length", "after 60 seconds", "{max_time: 60}"]),
    with_length("max_time: 60"): (2, "searcher.time_metric", ["is missing", "stop_when: {max_time: 60}"]),
    SOUND + "stop_when: {metric_at: 1}\n": (4, "stop_when", ["wrong place", "searcher.stop_when"]),
}

HYPERPARAMETERS = {
    with_hparam("lr: {type: lgo, minval: 1, maxval: 2}"): (4, "hyperparameters.lr.type", ['did you mean "log"?']),
    with_hparam("lr: {type: float, minval: 1, maxval: 2}"): (4, "hyperparameters.lr.type", ["use double"]),
    with_hparam("opt: {type: adam, lr: 3}"): (4, "hyperparameters.opt.type", ["type: {type: const, val: adam}"]),
    with_hparam("opt: {type: 3}"): (4, "hyperparameters.opt.type", ["isn't a type of hyperparameter"]),
    with_hparam("lr: {type: log, minval: 2, maxval: 1}"): (4, "hyperparameters.lr.maxval", ["above minval", "is 1"]),
    with_hparam("n: {type: int, minval: 1, maxval: 1}"): (4, "hyperparameters.n.maxval", ["both are 1", "write n: 1"]),
    with_hparam("n: {type: int, minval: 1.5, maxval: 3}"): (4, "hyperparameters.n.minval", ["whole number, not 1.5"]),
    with_hparam("n: {type: int, minval: 1}"): (4, "hyperparameters.n.maxval", ["is missing", "minval and maxval"]),
    with_hparam("n: {type: int, min: 1, maxval: 3}"): (4, "hyperparameters.n.min", ["did you mean minval?"]),
    with_hparam("n: {type: int, minval: 1, maxval: 3, base: 2}"): (4, "hyperparameters.n.base", ["is for log"]),
    with_hparam("n: {type: int, minval: 1, maxval: 3, count: 0}"): (4, "hyperparameters.n.count", ["at least 1"]),
    with_hparam("n: {type: int, minval: 1, maxval: 99999999999999999999}"): (
        4,
        "hyperparameters.n.maxval",
        ["at most 9223372036854775807"],
    ),
    with_hparam("lr: {type: log, minval: -1, maxval: 1, base: 1}"): (4, "hyperparameters.lr.base", ["must not be 1"]),
    with_hparam("lr: {type: log, minval: -1, maxval: 1, base: 0}"): (4, "hyperparameters.lr.base", ["above 0, not 0"]),
    with_hparam("lr: {type: log, minval: -1, maxval: 1, base: -2}"): (4, "hyperparameters.lr.base", ["above 0"]),
    with_hparam("lr: {type: log, minval: -1, maxval: 400}"): (4, "hyperparameters.lr.maxval", ["10**400", "too large"]),
    with_hparam("lr: {type: log, minval: -400, maxval: 0}"): (4, "hyperparameters.lr.minval", ["too small"]),
    with_hparam("lr: {type: double, minval: -.inf, maxval: 0}"): (4, "hyperparameters.lr.minval", ["finite"]),
    with_hparam("lr: {type: double, minval: 0, maxval: .nan}"): (4, "hyperparameters.lr.maxval", ["finite"]),
    with_hparam("lr: {type: log, minval: -4, maxval: -1, prior: 1}"): (
        4,
        "hyperparameters.lr.prior",
        ["1 is not a value that this hyperparameter can have"],
    ),
    with_hparam("lr: {type: log, minval: -4, maxval: -1, prior: {value: 1, confidence: low}}"): (
        4,
        "hyperparameters.lr.prior.value",
        ["1 is not a value that this hyperparameter can have"],
    ),
    with_hparam("lr: {type: log, minval: -4, maxval: -1, prior: {value: 0.1, confidence: hgih}}"): (
        4,
        "hyperparameters.lr.prior.confidence",
        ['did you mean "high"?'],
    ),
    with_hparam("lr: {type: log, minval: -4, maxval: -1, prior: {val: 0.1}}"): (
        4,
        "hyperparameters.lr.prior",
        ["must be a value, or a map such as {value: 0.001, confidence: high}"],
    ),
    with_condition("{op: sgd}"): (8, "hyperparameters.x.when.op", ["not the name of a hyperparameter", "mean o?"]),
    with_condition("{lr: 1}"): (8, "hyperparameters.x.when.lr", ["did you mean g.lr?"]),
    with_condition("{g: 1}"): (8, "hyperparameters.x.when.g", ["is a map", "g.lr"]),
    with_condition("{o: [sgd, adma]}"): (
        8,
        "hyperparameters.x.when.o",
        ['"adma" can never occur', '"sgd" or "adam"'],
    ),
    with_condition("{o: '!= 3', c: '!= 3'}"): (8, "hyperparameters.x.when.c", ["never be true: c is always 3"]),
    with_condition("{n: '> 8'}"): (8, "hyperparameters.x.when.n", ["can never be true: n is from 1 to 8"]),
    with_condition("{n: '> 3'}").replace("8}", "8, ordered: true}"): (
        5,
        "hyperparameters.n.ordered",
        ["is for categorical"],
    ),
    with_condition("{n: '> a'}"): (8, "hyperparameters.x.when.n", ["'a' is not a number", "write ['> a']"]),
    with_condition("{n: 9}"): (8, "hyperparameters.x.when.n", ["9 can never occur"]),
    with_condition("{n: true}"): (8, "hyperparameters.x.when.n", ["true can never occur"]),
    with_condition("{g.lr: 0.01}"): (8, "hyperparameters.x.when.g.lr", ["never drawn exactly"]),
    with_condition("{g.lr: '< 0.00001'}"): (8, "hyperparameters.x.when.g.lr", ["from 0.0001 to 0.1"]),
    with_condition("sgd"): (8, "hyperparameters.x.when", ["must be a map of names to values"]),
    with_condition("{}"): (8, "hyperparameters.x.when", ["must be a map of names to values"]),
    with_condition("{o: []}"): (8, "hyperparameters.x.when.o", ["at least one value"]),
    with_condition("{x: '> 0'}"): (8, "hyperparameters.x", ["form a cycle: x → x"]),
    with_hparam("g: {when: {b: 1}, a: 2}\n  b: {type: int, minval: 1, maxval: 2, when: {g.a: 2}}"): (
        4,
        "hyperparameters.g.a",
        ["form a cycle: g.a → b → g.a"],
    ),
    with_hparam("o: {type: categorical, vals: [a, b]}\n  g: {when: {o: a}, x: {type: const, val: 1, when: {o: b}}}"): (
        5,
        "hyperparameters.g.x.when.o",
        ["can never be true together with the conditions around it"],
    ),
    with_condition("{o: sgd, y: 1}") + "  y: {type: const, val: 1, when: {o: adam}}\n": (
        8,
        "hyperparameters.x.when.y",
        ["can never be true: no value of o satisfies all conditions that it depends on"],
    ),
    with_hparam("o: 1\n  g: {when: {o: 1}}"): (5, "hyperparameters.g.when", ["condition without hyperparameters"]),
    with_constraint("n * m <= 3"): (10, "constraints[1]", ["m is not the name of a hyperparameter"]),
    with_constraint("top-k <= 3"): (10, "constraints[1]", ['did you mean hparams["top-k"]?']),
    with_constraint("g > 3"): (10, "constraints[1]", ["did you mean g.lr?"]),
    with_constraint("n == true"): (10, "constraints[1]", ["true is written True"]),
    with_constraint("n = 3"): (10, "constraints[1]", ["is not an expression", "write =="]),
    with_constraint("o * 2 > n"): (10, "constraints[1]", ["o is text, not a number"]),
    with_constraint("o < 2"): (10, "constraints[1]", ["o is text, not a number"]),
    with_constraint("o == 'adma'"): (10, "constraints[1]", ["o can never be 'adma'"]),
    with_constraint("n in [1, 9]"): (10, "constraints[1]", ["n can never be 9"]),
    with_constraint("n in o"): (10, "constraints[1]", ["o is not a list"]),
    with_constraint("n + 1"): (10, "constraints[1]", ["must be true or false", "a number"]),
    with_constraint("open('x')"): (10, "constraints[1]", ["open('x') is not allowed here"]),
    with_constraint("n.__class__ == n"): (10, "constraints[1]", ["n.__class__ is not the name of a hyperparameter"]),
    with_constraint("n > 100"): (10, "constraints[1]", ["holds for 0 of 10,000 draws"]),
    with_hparam("a: {type: categorical, vals: [1, 2]}\n  b: {type: categorical, vals: [1, 2]}")
    + "constraints: ['a > 1', 'a + b < 3']\n": (6, "constraints[1]", ["all constraints together for 0"]),
    as_grid("a: {type: categorical, vals: [1, 2]}\nconstraints: ['a > 0', 'a > 2']"): (
        5,
        "constraints[1]",
        ["holds for 0 of 2 points of the grid"],
    ),
    with_length("max_length: 4") + "constraints: a > 3\n": (3, "constraints", ["must be a list"]),
    with_hparam("n: {type: int, minval: 0, maxval: 3, log: true}"): (
        4,
        "hyperparameters.n.minval",
        ["at least 1", "0"],
    ),
    with_hparam("d: {type: double, minval: 0, maxval: 3, log: true}"): (4, "hyperparameters.d.minval", ["above 0"]),
    with_hparam("n: {type: int, minval: 1, maxval: 9, log: true, step: 2}"): (
        4,
        "hyperparameters.n.step",
        ["log: true"],
    ),
    with_hparam("d: {type: double, minval: 1, maxval: 9, log: true, step: 1}"): (
        4,
        "hyperparameters.d.step",
        ["remove one"],
    ),
    with_hparam("n: {type: int, minval: 1, maxval: 9, step: 9}"): (4, "hyperparameters.n.step", ["9 is larger than"]),
    with_hparam("n: {type: int, minval: 1, maxval: 9, step: 0}"): (4, "hyperparameters.n.step", ["at least 1"]),
    with_hparam("d: {type: double, minval: 0, maxval: 9, step: 1.0e-30}"): (4, "hyperparameters.d.step", ["too small"]),
    with_hparam("n: {type: int, minval: 1, maxval: 99999, log: true, count: 20000}"): (
        4,
        "hyperparameters.n.count",
        ["at most 10,000"],
    ),
    with_hparam("o: {type: categorical, vals: [a, b], ordered: 1}"): (
        4,
        "hyperparameters.o.ordered",
        ["true or false"],
    ),
    with_hparam("lr: {type: log, minval: -3, maxval: 1, log: true}"): (4, "hyperparameters.lr.log", ["is for int or"]),
    with_hparam("o: {type: categorical, vals: []}"): (4, "hyperparameters.o.vals", ["at least one value"]),
    with_hparam("o: {type: categorical}"): (4, "hyperparameters.o.vals", ["is missing"]),
    with_hparam("o: {type: categorical, vals: a}"): (4, "hyperparameters.o.vals", ["must be a list", "write [a]"]),
    with_hparam("o: {type: categorical, values: [a]}"): (4, "hyperparameters.o.values", ["did you mean vals?"]),
    with_hparam("o: {type: categorical, vals: [a], count: 3}"): (4, "hyperparameters.o.count", ["int, double or log"]),
    with_hparam("o: {type: categorical, vals: [{type: int, minval: 1, maxval: 3}]}"): (
        4,
        "hyperparameters.o.vals",
        ["cannot vary what is in them"],
    ),
    with_hparam("c: {type: const}"): (4, "hyperparameters.c.val", ["is missing"]),
    with_hparam("l: [{type: int, minval: 1, maxval: 3}]"): (4, "hyperparameters.l", ["use a map"]),
    with_hparam("a:\n    b:\n      c: {type: int, minval: 4, maxval: 3}"): (
        6,
        "hyperparameters.a.b.c.maxval",
        ["is 3 while minval is 4"],
    ),
    with_hparam("'': 3"): (4, "hyperparameters.", ["needs a name"]),
    as_grid("a: {b: {type: int, minval: 1, maxval: 5}}"): (4, "hyperparameters.a.b", ["needs count"]),
    as_grid("{a: {type: log, minval: 0, maxval: 1, count: 300000000}, b: {type: categorical, vals: [1, 2]}}"): (
        3,
        "hyperparameters",
        ["600,000,000 points", "a 300,000,000 × b 2"],
    ),
}

ENTRYPOINTS = {
    with_entrypoint("model_def"): (2, "entrypoint", ["model_def:function", "python -m model_def"]),
    with_entrypoint("train.py"): (2, "entrypoint", ["train.py:function", "python train.py"]),
    with_entrypoint("pkg.train"): (2, "entrypoint", ["pkg.train:function"]),
    with_entrypoint("''"): (2, "entrypoint", ["must not be empty"]),
    with_entrypoint("5"): (2, "entrypoint", ["must be text or a list, not 5"]),
    with_entrypoint("{a: b}"): (2, "entrypoint", ["must be text or a list, not a map"]),
    with_entrypoint("[]"): (2, "entrypoint", ["must not be empty"]),
    with_entrypoint("[python, train.py, 3]"): (2, "entrypoint[2]", ['write "3" in quotes']),
    with_entrypoint("model:class"): (2, "entrypoint", ['"class"', "name of a function"]),
    with_entrypoint("model:a.b"): (2, "entrypoint", ['"a.b"', "name of a function"]),
    with_entrypoint("my-model:f"): (2, "entrypoint", ['"my-model"', "name of a module"]),
    with_entrypoint("src/model:f"): (2, "entrypoint", ["write src/model.py:f"]),
    with_entrypoint("python train.py {l_r}"): (2, "entrypoint", ["{l_r} is not the name of a hyperparameter", "{lr}?"]),
    with_hparam("o: 1\n  g: {when: {o: 1}, x: 2}").replace("train:main", "python train.py {g.x}"): (
        1,
        "entrypoint",
        ["{g.x} has no value in trials", "use {args}"],
    ),
    with_hparam("global_batch_size: {type: const, val: 8, when: {o: 1}}\n  o: 1").replace("16", "{records: 16}")
    + "min_validation_period: {batches: 1}\n": (4, "hyperparameters.global_batch_size", ["must not have a condition"]),
    with_entrypoint("python train.py {q}"): (2, "entrypoint", ["the hyperparameters are: lr, opt, opt.a, opt.b"]),
    with_entrypoint("run {trial.idd}"): (2, "entrypoint", ["did you mean {trial.id}?"]),
    with_entrypoint("[python, train.py, '--lr={opt.c}']"): (2, "entrypoint", ["did you mean {opt."]),
}

START_WITH = {
    started("- {lrr: 0.1}"): (6, "searcher.start_with[0].lrr", ["unknown hyperparameter", "did you mean lr?"]),
    started("- {lr: 0.1}\n    - {opt: {nme: sgd}}"): (7, "searcher.start_with[1].opt.nme", ["did you mean opt.name?"]),
    started("- {opt: sgd}"): (6, "searcher.start_with[0].opt", ["a map", "opt.name"]),
    started("- {n: many}"): (6, "searcher.start_with[0].n", ["must be a whole number", "'many'"]),
    started("- {n: 1.5}"): (6, "searcher.start_with[0].n", ["must be a whole number"]),
    started("- {lr: true}"): (6, "searcher.start_with[0].lr", ["must be a finite number"]),
    started("- {lr: .inf}"): (6, "searcher.start_with[0].lr", ["finite"]),
    started("- {lr: 0.1, batch: 64}"): (6, "searcher.start_with[0].batch", ["a constant of the experiment, 32"]),
    started("- {opt.name: sgd, opt: {name: sgd}}"): (6, "searcher.start_with[0].opt.name", ["given twice"]),
    started("- {}"): (6, "searcher.start_with[0]", ["at least one hyperparameter that is searched"]),
    started("- 0.1"): (6, "searcher.start_with[0]", ["must be a map"]),
    started("{lr: 0.1}"): (5, "searcher.start_with", ["must be a list"]),
    started("- {lr: 0.1}\n    - {lr: 0.2}\n    - {lr: 0.3}"): (
        5,
        "searcher.start_with",
        ["for 3 trials", "creates 2", "remove 1"],
    ),
    started("- {lr: 0.1}", "name: grid"): (5, "searcher.start_with", ["not for grid"]),
}

LIMITS = {
    with_length("max_length: 16").replace("20", "1e9"): (
        2,
        "searcher.max_trials",
        ["at most 10000000, not 1000000000"],
    ),
    with_length("max_length: 16").replace("20", "1" + "0" * 23): (2, "searcher.max_trials", ["at most 10000000"]),
    with_length("max_length: 16").replace("20", "10000001"): (2, "searcher.max_trials", ["at most 10000000"]),
    with_hparam("a: .nan"): (4, "hyperparameters.a", ["finite number, not .nan"]),
    with_hparam("a: -.inf"): (4, "hyperparameters.a", ["finite number, not -.inf"]),
    with_hparam("a: 1e999"): (4, "hyperparameters.a", ["finite number"]),
    with_hparam("a: [1, {b: .inf}]"): (4, "hyperparameters.a[1].b", ["finite number, not .inf"]),
    with_hparam("a: {type: const, val: .nan}"): (4, "hyperparameters.a.val", ["finite number"]),
    with_hparam("a: {type: categorical, vals: [1, .nan]}"): (4, "hyperparameters.a.vals[1]", ["finite number"]),
    with_hparam("a: {type: int, minval: .nan, maxval: 3}"): (4, "hyperparameters.a.minval", ["not .nan"]),
    with_hparam("a: {type: double, minval: 0, maxval: .inf}"): (4, "hyperparameters.a.maxval", ["not .inf"]),
    SOUND + "data: {a: .nan}\n": (4, "data.a", ["finite number"]),
    SOUND + "backend: ray\nresources: {custom_resources: {a: .inf}}\n": (
        5,
        "resources.custom_resources.a",
        ["finite number"],
    ),
    with_hparam("a: {type: log, minval: 1.0e-5, maxval: 0}"): (
        4,
        "hyperparameters.a.maxval",
        ["must be above minval", "did you write values instead of exponents?", "minval: -5"],
    ),
    with_hparam("a: {type: log, minval: 0.1, maxval: 0.0001}"): (
        4,
        "hyperparameters.a.maxval",
        ["values instead of exponents?", "minval: -1"],
    ),
    with_hparam("a: {type: log, minval: 0.25, maxval: -1, base: 2}"): (
        4,
        "hyperparameters.a.maxval",
        ["values instead of exponents?", "base 2", "minval: -2"],
    ),
    with_hparam("a: {type: log, minval: 1.0e-5, maxval: 0, base: 0.5}"): (
        4,
        "hyperparameters.a.maxval",
        ["must be above minval"],
    ),
    SOUND + f"resources: {{memory_per_trial: '{'9' * 5000}'}}\n": (4, "resources.memory_per_trial", ["must be bytes"]),
    asha(f"bracket_rungs: [{', '.join(['1'] * 101)}]"): (2, "searcher.bracket_rungs", ["at most 100 values, not 101"]),
    as_grid(", ".join(f"a{i}: {{type: int, minval: 0, maxval: 9, count: 10}}" for i in range(5000))).replace(
        "\n  a0", "\n  {a0"
    )
    + "  }\n": (3, "hyperparameters", ["more than 10,000,000"]),
}

ALL = UNREADABLE | IN_THE_TEXT | UNKNOWN_KEYS | WRONG_TYPES | OTHER_SECTIONS | LENGTHS | SEARCHER | HYPERPARAMETERS
ALL |= ENTRYPOINTS | STOP_WHEN | START_WITH | LIMITS


@pytest.mark.parametrize(("text", "expected"), ALL.items(), ids=[text[:80] for text in ALL])
def test_each_mistake_has_line_key_and_message(
    tmp_path: Path, text: str, expected: tuple[int | None, str, list[str]]
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    line, key, fragments = expected

    with pytest.raises(ConfigError) as raised:
        read_experiment(file)

    [problem] = [each for each in raised.value.problems if each.key == key]
    assert problem.line == line
    assert problem.file == str(file)
    assert [fragment for fragment in fragments if fragment not in problem.message] == []
    assert "\n" not in str(problem)


def test_each_mistake_is_reported_once(tmp_path: Path) -> None:
    """A misspelt key is not reported as missing, and a wrong section gives no messages about its keys."""
    file = tmp_path / "experiment.yaml"
    for text in ALL:
        file.write_text(text)
        with pytest.raises(ConfigError) as raised:
            read_experiment(file)
        assert len(raised.value.problems) == 1, str(raised.value)


def test_all_mistakes_of_a_file_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(
        "name: 3\n"
        "labls: [x]\n"
        "searcher:\n"
        "  name: adaptive_asha\n"
        "  metric: loss\n"
        "  mode: agressive\n"
        "  max_trials: '50'\n"
        "hyperparameters:\n"
        "  lr: {type: log, minval: -1, maxval: -4}\n"
        "  opt: {type: categorical, vals: []}\n"
        "min_validation_period: {batches: 0.5}\n"
        "entrypoint: train\n"
    )

    with pytest.raises(ConfigError) as raised:
        read_experiment(file)

    assert [(problem.line, problem.key) for problem in raised.value.problems] == [
        (1, "name"),
        (2, "labls"),
        (3, "searcher.max_length"),
        (6, "searcher.mode"),
        (7, "searcher.max_trials"),
        (9, "hyperparameters.lr.maxval"),
        (10, "hyperparameters.opt.vals"),
        (11, "min_validation_period.batches"),
        (12, "entrypoint"),
    ]


@pytest.mark.parametrize(
    ("leaf", "said"),
    [("{minval: 0, maxval: 1}", "a range needs a type"), ("{vals: [1, 2]}", "a choice needs a type")],
)
def test_hyperparameter_without_type_is_reported(tmp_path: Path, leaf: str, said: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "entrypoint: a:b\nhyperparameters:\n"
        f"  x: {leaf}\n"
        "searcher: {name: random, metric: m, max_length: 1, max_trials: 1}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_experiment(file)
    [problem] = caught.value.problems
    assert (problem.line, problem.key) == (3, "hyperparameters.x")
    assert said in problem.message


LONG = "x" * 3_000
DIGITS = "9" * 300
FIELDS = [
    *("name", "description", "labels", "data", "entrypoint", "hyperparameters", "searcher", "records_per_epoch"),
    *("max_restarts", "min_validation_period", "backend", "store", "checkpoint_storage", "resources", LONG),
    *("environment", "reproducibility", "searcher.name", "searcher.metric", "searcher.max_trials"),
    *("searcher.max_length", "searcher.mode", "searcher.time_metric", "searcher.max_time", "searcher.stop_when"),
    *("searcher.bracket_rungs", "searcher.source_trial_id", "searcher.sampler", "searcher.max_steps"),
    *("searcher.start_with", f"searcher.start_with.{LONG}"),
    *("hyperparameters.lr", "environment.environment_variables", f"searcher.{LONG}", f"hyperparameters.{LONG}"),
]
LONG_VALUES = [
    *(
        LONG,
        DIGITS,
        f"'{DIGITS}'",
        f"[{LONG}]",
        f"{{{LONG}: {LONG}}}",
        f"{{type: {LONG}}}",
        f"{LONG}:{LONG}",
        f"{LONG}.py",
    ),
    *(f"src/{LONG}:f", f"f:{LONG}", f"python {{{LONG}}}", f"{LONG}://{LONG}", f"s3://b?key{LONG}=1", f"*{LONG}"),
    *(f"{{epochs: {DIGITS}}}", f"'{DIGITS} epochs'", f"!{LONG} 1", f"{{type: log, minval: {DIGITS}, maxval: {LONG}}}"),
    f"[a, {LONG}: b: c",
]


@pytest.mark.parametrize("value", LONG_VALUES, ids=[value[:25] for value in LONG_VALUES])
def test_messages_shorten_values_to_200_characters(tmp_path: Path, value: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(SOUND)
    for field in FIELDS:
        try:
            messages = list(read_experiment(file, overrides=[f"{field}={value}"]).warnings)
        except ConfigError as error:
            messages = [str(problem) for problem in error.problems]
        for message in messages:
            shown = [len(run) for run in re.findall("x{9,}|9{9,}", message)]
            assert max(shown, default=0) <= 200
            assert sum(shown) <= 400  # a key and a value


def test_at_most_100_problems_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(SOUND + "".join(f"unknown_{number}: 1\n" for number in range(5_000)))
    with pytest.raises(ConfigError) as raised:
        read_experiment(file)
    assert len(raised.value.problems) == 101
    assert "there may be more problems" in str(raised.value)


@pytest.mark.parametrize(
    ("of_x", "of_y", "is_possible"),
    [
        ("n: '> 0.5'", "n: '< 0.3'", False),
        ("n: '> 0.5'", "n: '< 0.6'", True),
        ("big: 2500", "big: '> 2499'", True),
        ("big: 2500", "big: '> 2500'", False),
        ("big: '> 2500'", "big: '< 2502'", True),
        ("big: '> 2500'", "big: '< 2501'", False),
        ("stepped: '> 0.0003'", "stepped: '< 0.0005'", True),
        ("stepped: '> 0.0003'", "stepped: '< 0.0004'", False),
        ("o: [a, b]", "o: [b, c]", True),
        ("o: [a, b]", "o: '!= a', n: '< 1'", True),
        ("o: [a, b]", "o: c", False),
    ],
)
def test_conditions_of_two_hyperparameters_exclude_each_other_or_not(of_x: str, of_y: str, is_possible: bool) -> None:
    ranges = """n: {type: double, minval: 0, maxval: 1}
  big: {type: int, minval: 1, maxval: 5000}
  stepped: {type: double, minval: 0, maxval: 1, step: 0.0001}
  o: {type: categorical, vals: [a, b, c]}
  y: {type: int, minval: 1, maxval: 2, when: {WHEN}}
  x: {type: const, val: 1, when: {y: 1, WHEN}}
  z: {type: const, val: 1, when: {x: 1}}"""
    text = with_hparam(ranges.replace("WHEN", of_y, 1).replace("WHEN", of_x, 1))
    if is_possible:
        parse_experiment(text, workdir=Path("/"))
        return
    with pytest.raises(ConfigError) as caught:
        parse_experiment(text, workdir=Path("/"))
    (problem,) = caught.value.problems
    assert problem.key == f"hyperparameters.x.when.{of_x.partition(':')[0]}"
    assert "no value of " in problem.message
