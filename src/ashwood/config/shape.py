"""The shape of an experiment file: which keys there are, of which types, with which defaults.

Reading and the JSON schema both follow from these models.  Whatever depends on several
keys at once is checked where it is used.  No key is required here, so that one missing key
doesn't hide what else is wrong; the lists of required keys serve the JSON schema.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from ashwood.experiment.spec import SaveOn
from ashwood.search.settings import MOST_TRIALS, Method, Mode, Sampler

UNITS = ("batches", "records", "epochs")
MOST_WHOLE = 2**53
"""The largest whole number that every reader of a file or of JSON holds exactly."""

_MOST_BRACKETS = 100


def _length(minimum: int) -> dict[str, Any]:
    count = {"type": "integer", "minimum": minimum, "maximum": MOST_WHOLE}
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {unit: {**count, "description": f"how many {unit}"} for unit in UNITS},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
            count,
        ]
    }


def _kept(which: str, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "default": default, "description": f"How many to keep {which}."}


_STRINGS = {"type": "array", "items": {"type": "string"}}
_STORAGE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "description": "a directory, or a URL such as s3://bucket/prefix"},
        {
            "type": "object",
            "properties": {
                "type": {"enum": ["shared_fs", "directory", "s3", "gcs", "azure"]},
                "host_path": {"type": "string", "description": "the directory, for shared_fs"},
                "storage_path": {"type": "string", "description": "a directory inside host_path, for shared_fs"},
                "container_path": {"type": "string", "description": "the directory, for directory"},
                "bucket": {"type": "string", "description": "the bucket, for s3 and gcs"},
                "container": {"type": "string", "description": "the container, for azure"},
                "prefix": {"type": "string", "description": "a folder in the bucket or container"},
                "endpoint_url": {"type": "string", "description": "the server, for s3 that isn't Amazon's"},
                "account_url": {"type": "string", "description": "the storage account, for azure"},
                "save_experiment_best": _kept("of all checkpoints of the experiment, with the best metric", 0),
                "save_trial_best": _kept("of each trial's checkpoints, with the best metric", 1),
                "save_trial_latest": _kept("of each trial's checkpoints, the latest", 1),
            },
        },
    ]
}
_BACKEND_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["local", "ray"]},
        {
            "type": "object",
            "properties": {
                "type": {"enum": ["local", "ray"]},
                "address": {
                    "type": "string",
                    "description": "the head of the Ray cluster, such as 10.0.0.1:6379; "
                    "by default RAY_ADDRESS, otherwise the cluster of this machine",
                },
                "runtime_env": {
                    "type": "object",
                    "description": "what else Ray is to set up for workers: pip, uv, conda, env_vars and others",
                    "properties": {"working_dir": False, "py_modules": False},
                },
                "ship_code": {
                    "type": "boolean",
                    "default": True,
                    "description": "whether the work directory is sent to the nodes; "
                    "false: every node has it in the same place",
                },
                "autoscales": {
                    "type": "boolean",
                    "default": False,
                    "description": "whether nodes may come that are larger than those that are there",
                },
            },
            "required": ["type"],
            "additionalProperties": False,
        },
    ]
}
_VARIABLES_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}},
        {"type": "object", "additionalProperties": {"anyOf": [{"type": ["string", "integer"]}, _STRINGS]}},
    ]
}

MaxLength = Annotated[Any, WithJsonSchema(_length(1))]
Period = Annotated[Any, WithJsonSchema(_length(0))]
Command = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {**_STRINGS, "minItems": 1}]})]
Storage = Annotated[Any, WithJsonSchema(_STORAGE_SCHEMA)]
Variables = Annotated[Any, WithJsonSchema(_VARIABLES_SCHEMA)]
Duration = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^\s*\d"}]}),
]
Memory = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\s*\d"}]})
]
LogSize = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\s*\d"}]})
]
Backend = Annotated[Any, WithJsonSchema(_BACKEND_SCHEMA)]
SourceTrial = Annotated[Any, WithJsonSchema({"type": "string", "pattern": r"^\w+/\d+$"})]
Hyperparameters = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "additionalProperties": {"$ref": "#/$defs/Hyperparameter"}}),
]


class Section(BaseModel):
    """A map of the file with fixed keys; a null stands for the default, as in Determined's files."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
        return data


class StopWhen(Section):
    """What is enough: the search stops as soon as either is reached, and can be resumed with a higher bound."""

    metric_at: float | None = Field(
        default=None, allow_inf_nan=False, description="Stop when a trial reports this metric or a better one."
    )
    max_time: Duration = Field(
        default=None,
        description="Stop when the experiment has run for so long: seconds, or text such as 90s, 15min, 2h or 3d.",
    )


class Searcher(Section):
    """How the search goes."""

    model_config = ConfigDict(json_schema_extra={"required": ["name", "metric"]})

    name: Annotated[Method, Field(strict=False)] | None = Field(
        default=None, description="The search method. adaptive_asha suits nearly every search."
    )
    metric: str | None = Field(
        default=None,
        min_length=1,
        description="The metric to compare, by the name that training code reports it under.",
    )
    smaller_is_better: bool = Field(default=True, description="Whether a smaller metric is better.")
    max_length: MaxLength = Field(
        default=None,
        description="The longest training of a trial: {epochs: n}, {records: n}, {batches: n} or a bare number.",
    )
    time_metric: str | None = Field(
        default=None, min_length=1, description="With max_time, another way to write max_length: what training counts."
    )
    max_time: int | None = Field(
        default=None, ge=1, le=MOST_WHOLE, description="With time_metric, another way to write max_length."
    )
    max_trials: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TRIALS,
        description="How many trials to create. Not for grid and single, whose number is given.",
    )
    max_concurrent_trials: int = Field(
        default=16,
        ge=0,
        le=MOST_WHOLE,
        description="How many trials may train at once; 0: as many as there is room for.",
    )
    mode: Annotated[Mode, Field(strict=False)] = Field(
        default=Mode.STANDARD,
        description="How early adaptive_asha stops trials: aggressive, standard, conservative, or auto, "
        "which learns it, and where good trials are.",
    )
    sampler: Annotated[Sampler, Field(strict=False)] | None = Field(
        default=None,
        description="How hyperparameters are drawn: random, or density: where good trials have been. "
        "By default random, density with mode: auto.",
    )
    divisor: float = Field(
        default=4,
        gt=1,
        allow_inf_nan=False,
        description="One trial in so many goes on to the next rung; any number above 1 (mode: auto: 2.5 if not given).",
    )
    max_rungs: int = Field(
        default=5,
        ge=1,
        le=MOST_WHOLE,
        description="The most rungs of a bracket of adaptive_asha. With mode: auto 7 by default.",
    )
    bracket_rungs: list[int] = Field(
        default=[],
        max_length=_MOST_BRACKETS,
        description="The number of rungs of each bracket of adaptive_asha, instead of what mode gives.",
    )
    num_rungs: int | None = Field(
        default=None,
        ge=1,
        le=MOST_WHOLE,
        description="The number of rungs of async_halving and sync_halving; 5 or what max_length allows.",
    )
    stop_once: bool = Field(
        default=False, description="Stop poor trials for good instead of pausing them, so they need no checkpoints."
    )
    stop_when: StopWhen = Field(
        default=StopWhen(), description="What is enough: a metric, a time on the clock, or both."
    )
    source_trial_id: SourceTrial = Field(
        default=None,
        description="Start every trial from the latest checkpoint of this trial: EXPERIMENT/TRIAL, such as 3/17.",
    )
    source_checkpoint_uuid: str | None = Field(
        default=None, min_length=1, description="Start every trial from this checkpoint: its directory."
    )


class Resources(Section):
    """What a trial takes of the machine."""

    slots_per_trial: int | None = Field(
        default=None,
        ge=0,
        le=MOST_WHOLE,
        description="Slots a trial takes: GPUs, or CPU cores where there are no GPUs. 1 by default.",
    )
    gpus_per_trial: float | None = Field(
        default=None,
        ge=0,
        le=MOST_WHOLE,
        allow_inf_nan=False,
        description="Slots a trial takes, counted in GPUs. With backend: ray also a fraction, such as 0.5.",
    )
    cpus_per_trial: float | None = Field(
        default=None,
        ge=0,
        le=MOST_WHOLE,
        allow_inf_nan=False,
        description="Slots a trial takes, counted in CPU cores. With backend: ray the cores it takes besides its GPUs.",
    )
    memory_per_trial: Memory = Field(
        default=None, description="With backend: ray, the memory a trial takes: bytes, or text such as 8GB or 512MiB."
    )
    custom_resources: dict[str, float] = Field(
        default={}, description="With backend: ray, what else a trial takes, by the names that the cluster has for it."
    )


class Reproducibility(Section):
    """What makes the search the same again."""

    experiment_seed: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="Every random draw of the search, and each trial's seed, follows from it.",
    )


class Environment(Section):
    """What training code finds around it."""

    environment_variables: Variables = Field(
        default=None, description='Environment variables for training code: a list of "NAME=value", or a map.'
    )


class ExperimentFile(Section):
    """An experiment of Ashwood: what to train, what to vary, how to search."""

    model_config = ConfigDict(json_schema_extra={"required": ["searcher", "entrypoint"]})

    name: str | None = Field(default=None, min_length=1, description="A name for people; the file's name by default.")
    description: str = Field(default="", description="What the experiment is about, for people.")
    labels: list[str] = Field(default=[], description="Words to find the experiment by.")
    data: dict[str, Any] = Field(default={}, description="Anything at all, handed to training code as trial.data.")
    entrypoint: Command = Field(
        default=None,
        description="The training code: module:function, path/file.py:function, or a command in which {name} "
        "stands for a hyperparameter.",
    )
    hyperparameters: Hyperparameters = Field(
        default={}, description="What training code can be given, and what is searched."
    )
    searcher: Searcher = Field(default=Searcher(), description="How the search goes.")
    records_per_epoch: int | None = Field(
        default=None,
        ge=0,
        le=MOST_WHOLE,
        description="Records in an epoch, to convert between epochs, records and batches.",
    )
    min_validation_period: Period = Field(
        default=None,
        description="Validate at least this often, besides where the search compares trials; 0: only there.",
    )
    min_checkpoint_period: Period = Field(
        default=None,
        description="Save a checkpoint at least this often; 0: only as checkpoint_policy says.",
    )
    checkpoint_policy: Annotated[SaveOn, Field(strict=False)] = Field(
        default=SaveOn.BEST,
        description="Which reports save a checkpoint at once, besides those at which a trial leaves its worker: best "
        "(a better metric than that of any checkpoint of the experiment), all, or none.",
    )
    max_restarts: int = Field(
        default=5, ge=0, le=MOST_WHOLE, description="How often a trial whose process failed is started again."
    )
    max_preemptions: int = Field(
        default=20,
        ge=0,
        le=MOST_WHOLE,
        description="How often in a row a trial may lose its worker without getting any further before that counts as "
        "a failure of its own.",
    )
    reuse_workers: bool = Field(
        default=True,
        description="Let a worker process train one trial after the other; false: a fresh process for each attempt.",
    )
    grace_period: Duration = Field(
        default=None,
        description="Kill a worker that must stop, and finishes no step or save for so long: seconds, or text such as "
        "30s or 5min; by default 10 seconds, or twice its longest step so far if that is more.",
    )
    max_silence: Duration = Field(
        default=None,
        description="Fail and retry an attempt that trains for so long without finishing a step or saving: seconds, "
        "or text such as 90s or 15min; by default there is no limit.",
    )
    max_log_size: LogSize = Field(
        default="100 MB",
        description="Limit of each trial's log: bytes, or text such as 100 MB, at least 100 kB; the beginning and the "
        "end are kept; 0: no limit.",
    )
    max_trial_time: Duration = Field(
        default=None,
        description="Stop a trial that has trained for so long in all its attempts; its results stand: seconds, or "
        "text such as 90s or 2h; by default there is no limit.",
    )
    max_invalid_trials: int | None = Field(
        default=None,
        ge=1,
        le=MOST_WHOLE,
        description="The experiment pauses when so many trials have declared their hyperparameters invalid; by "
        "default 10 times max_trials.",
    )
    max_common_failures: int = Field(
        default=3,
        ge=0,
        le=MOST_WHOLE,
        description="The experiment pauses when so many trials have failed in the same way before any has reported; "
        "0: never.",
    )
    backend: Backend = Field(
        default=None,
        description="Where trials run: local (by default), ray, or a map with type: ray that says more of the cluster.",
    )
    store: str | None = Field(
        default=None,
        min_length=1,
        description="The database to record the experiment in, postgresql://HOST/DATABASE; --home goes over it.",
    )
    checkpoint_storage: Storage = Field(
        default=None,
        description="Directory or URL for checkpoints, and how many are kept; inside Ashwood's home by default.",
    )
    resources: Resources = Field(default=Resources(), description="What a trial takes of the machine.")
    reproducibility: Reproducibility = Field(
        default=Reproducibility(), description="What makes the search the same again."
    )
    environment: Environment = Field(default=Environment(), description="What training code finds around it.")


# -- hyperparameters ------------------------------------------------------------------------


class Leaf(BaseModel):
    """A hyperparameter with ``type``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


_COUNT = "For grid search: how many evenly spaced values to try."


class IntLeaf(Leaf):
    """A whole number from minval to maxval, both included."""

    type: Literal["int"]
    minval: int = Field(ge=-(2**63), le=2**63 - 1, description="The smallest value.")
    maxval: int = Field(ge=-(2**63), le=2**63 - 1, description="The largest value.")
    count: int | None = Field(default=None, ge=1, le=MOST_WHOLE, description=_COUNT)


class DoubleLeaf(Leaf):
    """A number from minval to maxval."""

    type: Literal["double"]
    minval: float = Field(allow_inf_nan=False, description="The smallest value.")
    maxval: float = Field(allow_inf_nan=False, description="The largest value.")
    count: int | None = Field(default=None, ge=1, le=MOST_WHOLE, description=_COUNT)


class LogLeaf(Leaf):
    """A number base**x with x from minval to maxval: minval and maxval are exponents."""

    type: Literal["log"]
    minval: float = Field(allow_inf_nan=False, description="The smallest exponent: -4 for 0.0001.")
    maxval: float = Field(allow_inf_nan=False, description="The largest exponent: -1 for 0.1.")
    base: float = Field(default=10.0, gt=0, allow_inf_nan=False, description="The base of the exponents.")
    count: int | None = Field(default=None, ge=1, le=MOST_WHOLE, description=_COUNT)


class CategoricalLeaf(Leaf):
    """One of several values."""

    type: Literal["categorical"]
    vals: list[Any] = Field(min_length=1, description="The values to choose from.")


class ConstLeaf(Leaf):
    """Always the same value; a bare value means the same."""

    type: Literal["const"]
    val: Any = Field(description="The value.")


class LeafType(StrEnum):
    """The types of hyperparameters, by the names that files use."""

    INT = "int"
    DOUBLE = "double"
    LOG = "log"
    CATEGORICAL = "categorical"
    CONST = "const"


LEAVES: dict[LeafType, type[Leaf]] = {
    LeafType.INT: IntLeaf,
    LeafType.DOUBLE: DoubleLeaf,
    LeafType.LOG: LogLeaf,
    LeafType.CATEGORICAL: CategoricalLeaf,
    LeafType.CONST: ConstLeaf,
}
