"""The keys of an experiment file.

Each key is declared once, with its kind, default and description, here or in the module of its section.  Reading, the
JSON schema and the tables of ``docs/experiment-file.md`` use these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ashwood.checkpoints.limited import LEAST_LIMIT
from ashwood.config.backend import BACKEND, BackendSection
from ashwood.config.constraints import CONSTRAINTS_KIND
from ashwood.config.entrypoint import ENTRYPOINT, ENTRYPOINT_FORMS
from ashwood.config.environment import VARIABLES
from ashwood.config.hyperparameters import SPACE
from ashwood.config.kinds import ANY, DURATION, FLAG, choice, length, list_of, map_of, size, text, whole
from ashwood.config.resources import Resources
from ashwood.config.searcher import SearcherSection
from ashwood.config.section import Section, key, section
from ashwood.config.storage import STORE, URL, StorageSection
from ashwood.experiment.spec import Entrypoint, ExperimentSpec, Length, SaveOn
from ashwood.search.space import Tree

_DEFAULTS = {each.name: each.default for each in fields(ExperimentSpec)}


@dataclass(frozen=True, kw_only=True)
class Reproducibility(Section, at=("reproducibility",)):
    """Settings that make the search reproducible."""

    experiment_seed: int | None = key(
        whole(0, 2**31 - 1),
        "Every random draw of the search, and the seed of each trial, follows from it.",
        otherwise="drawn and recorded",
    )


@dataclass(frozen=True, kw_only=True)
class Environment(Section, at=("environment",)):
    """The environment of training code."""

    environment_variables: Mapping[str, str] | None = key(
        VARIABLES, 'Environment variables for training code: a list of "NAME=value", or a map.'
    )


@dataclass(frozen=True, kw_only=True)
class ExperimentFile(Section):
    """An Ashwood experiment: what to train, which hyperparameters to vary, and how to search."""

    name: str | None = key(text(), "A name for people.", otherwise="the file's name")
    description: str = key(text(empty=True), "What the experiment is about, for people.", "")
    labels: Sequence[str] = key(list_of(text(empty=True)), "Words to find the experiment by.", ())
    data: Mapping[str, Any] | None = key(map_of(ANY), "Anything at all, handed to training code as trial.data.")
    entrypoint: Entrypoint | None = key(
        ENTRYPOINT,
        "The training code: module:function, path/file.py:function, or a command in which {name} stands for a "
        "hyperparameter.",
        required=f"the training code, {ENTRYPOINT_FORMS}",
    )
    hyperparameters: Tree | None = key(SPACE, "The hyperparameters of training code: constants, and those to search.")
    constraints: Sequence[str] = key(
        CONSTRAINTS_KIND,
        "Expressions that hold for the hyperparameters of every trial, such as layers * width <= 4096.",
        (),
    )
    searcher: SearcherSection = key(
        section(SearcherSection),
        "The search method and its settings.",
        required="how to search, with name, metric, max_length and mostly max_trials",
    )
    records_per_epoch: int | None = key(
        whole(), "Records in an epoch, to convert between epochs, records and batches.", otherwise="unknown"
    )
    min_validation_period: Length | None = key(
        length(0),
        "Validate at least this often, in addition to the rungs; 0: at rungs only.",
        otherwise="at rungs only",
    )
    min_checkpoint_period: Length | None = key(
        length(0),
        "Save a checkpoint at least this often; 0: only as checkpoint_policy says.",
        otherwise="only as checkpoint_policy says",
    )
    checkpoint_policy: SaveOn = key(
        choice(SaveOn, "a checkpoint policy"),
        "Which reports save a checkpoint at once, besides those at which a trial leaves its worker: best (a better "
        "metric than that of any checkpoint of the experiment), all (every report of the metric), or none.",
        _DEFAULTS["save_on"],
    )
    max_restarts: int = key(
        whole(),
        "How often a trial whose process failed is started again, from its latest checkpoint.",
        _DEFAULTS["max_restarts"],
    )
    max_preemptions: int = key(
        whole(),
        "How often in a row a trial may lose its worker without getting any further before that counts as a failure "
        "of its own.",
        20,
    )
    reuse_workers: bool = key(
        FLAG,
        "true: a worker process trains one trial after the other; false: each attempt gets a fresh process.",
        _DEFAULTS["reuse_workers"],
    )
    grace_period: float | None = key(
        DURATION,
        "Kill a worker that must stop and finishes no step or save for this time: seconds, or text such as 30s or "
        "5min.",
        otherwise="10 seconds, or twice the longest step of the attempt if that is more",
    )
    max_silence: float | None = key(
        DURATION,
        "Fail and retry an attempt that trains without finishing a step or a save for this time: seconds, or text "
        "such as 90s or 15min.",
        otherwise="no limit",
    )
    max_log_size: int = key(
        size("a size such as 100 MB, in bytes, or 0 for no limit", LEAST_LIMIT, zero=True),
        "Limit of each trial's log: bytes, or text such as 100 MB, at least 100 kB; the beginning and the end are "
        "kept; 0: no limit.",
        100_000_000,
        otherwise="100 MB",
    )
    max_trial_time: float | None = key(
        DURATION,
        "Stop a trial that has trained for this time in all its attempts; its results count: seconds, or text such as "
        "90s or 2h.",
        otherwise="no limit",
    )
    max_invalid_trials: int | None = key(
        whole(1),
        "Pause the experiment when this many trials have declared their hyperparameters invalid.",
        otherwise="10 times max_trials",
    )
    max_common_failures: int = key(
        whole(),
        "Pause the experiment when this many trials have failed in the same way before any has reported the metric; "
        "0: never.",
        3,
    )
    backend: BackendSection = key(
        BACKEND,
        "Where trials run: local, ray, or a map with type: ray and settings of the cluster.",
        otherwise="local",
    )
    store: str | None = key(
        STORE,
        "The database to record the experiment in, postgresql://HOST/DATABASE; --home and ASHWOOD_HOME override it.",
        otherwise="the home",
    )
    checkpoint_storage: StorageSection = key(
        section(StorageSection, URL, "url"),
        "Directory or URL for checkpoints, or a map that also says how many are kept.",
        otherwise="in the home",
    )
    resources: Resources = key(section(Resources), "What a trial takes of the machine.")
    reproducibility: Reproducibility = key(section(Reproducibility), "Settings that make the search reproducible.")
    environment: Environment = key(section(Environment), "The environment of training code.")


FILE = section(ExperimentFile)
