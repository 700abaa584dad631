"""Keys and names of Determined AI and other tools that Ashwood ignores or spells differently.

A file written for Determined is accepted.  Each key without effect gets a warning that says what
Ashwood does instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ashwood.config.wording import Path, shown

_NO_CONTAINERS = "Ashwood runs training code as it is on its machine, without containers"
_NO_CLUSTER = "Ashwood shares no cluster out among experiments"
_WHERE = "trials run where backend says, on this machine or on a Ray cluster"

IGNORED: dict[Path, str] = {
    ("batches_per_step",): "training code itself decides how many batches it runs between two reports",
    ("bind_mounts",): f"{_NO_CONTAINERS}: training code sees the host's paths as they are",
    ("data_layer",): "training code reads its data itself; nothing is cached for it",
    ("debug",): "every trial's full output is kept in its log (ashwood logs)",
    ("integrations",): "Ashwood connects to no outside service; training code may do so itself",
    ("internal",): "it is for Determined's own use",
    ("log_pattern_policies",): "logs aren't searched for patterns; max_restarts alone limits restarts",
    ("log_policies",): "logs aren't searched for patterns; max_restarts alone limits restarts",
    ("optimizations",): (
        "these use aggregation_frequency and average_aggregated_gradients; training code sets the rest itself, such as "
        "mixed precision"
    ),
    ("pachyderm",): "training code reads its data itself",
    ("pbs",): f"{_NO_CLUSTER} and submits nothing to PBS",
    ("perform_initial_validation",): "other training code decides itself whether it validates before training",
    ("pool",): f"Ashwood has no pools: {_WHERE}",
    ("preemption_timeout",): "a trial that is preempted saves within 10 seconds, or resumes from its latest checkpoint",
    ("profiling",): "Ashwood doesn't profile; training code may use its framework's profiler",
    ("project",): "experiments aren't grouped into projects; use labels",
    ("retention_policy",): "logs are kept until you delete them",
    ("scheduling_unit",): (
        "these report training metrics after this number of batches; the search answers at each report of training code"
    ),
    ("security",): "Ashwood runs as you, with your rights",
    ("slurm",): f"{_NO_CLUSTER} and submits nothing to Slurm",
    ("tensorboard_storage",): "Ashwood stores no TensorBoard files; training code may write them where it likes",
    ("webhooks",): "Ashwood calls no webhooks",
    ("workspace",): "experiments aren't grouped into workspaces; use labels",
    ("checkpoint_storage", "checkpoint_path"): "storage_path is its later name",
    ("checkpoint_storage", "hdfs_url"): "the URL is written as checkpoint_storage: hdfs://host:port/path",
    ("checkpoint_storage", "propagation"): "nothing is mounted",
    ("checkpoint_storage", "tensorboard_path"): "Ashwood stores no TensorBoard files",
    ("environment", "add_capabilities"): f"{_NO_CONTAINERS}: training code has your own rights",
    ("environment", "drop_capabilities"): f"{_NO_CONTAINERS}: training code has your own rights",
    ("environment", "force_pull_image"): f"{_NO_CONTAINERS}: there is no image to pull",
    ("environment", "image"): f"{_NO_CONTAINERS}; on a Ray cluster, backend.runtime_env says what it finds there",
    ("environment", "pbs"): f"{_NO_CLUSTER} and submits nothing to PBS",
    ("environment", "pod_spec"): f"{_NO_CONTAINERS} and without Kubernetes",
    ("environment", "ports"): f"{_NO_CONTAINERS}: training code may open any port there",
    ("environment", "proxy_ports"): f"{_NO_CONTAINERS}: training code's ports are the machine's",
    ("environment", "registry_auth"): f"{_NO_CONTAINERS}: no registry is used",
    ("environment", "slurm"): f"{_NO_CLUSTER} and submits nothing to Slurm",
    ("resources", "agent_label"): _WHERE,
    ("resources", "devices"): f"{_NO_CONTAINERS}: training code sees the machine's devices, GPUs by slot",
    ("resources", "is_single_node"): "a trial runs on several machines only where its slots don't fit on one",
    ("resources", "max_slots"): "limit the slots of a run with --workers",
    ("resources", "native_parallel"): "training code decides how it uses the slots of its trial",
    ("resources", "priority"): f"{_NO_CLUSTER}: each run has the slots that it was started with",
    ("resources", "resource_manager"): _WHERE,
    ("resources", "resource_pool"): f"Ashwood has no pools: {_WHERE}",
    ("resources", "shm_size"): f"{_NO_CONTAINERS}: /dev/shm is as large as the machine has it",
    ("resources", "slots"): "slots_per_trial says how many slots a trial takes",
    ("resources", "weight"): f"{_NO_CLUSTER}: each run has the slots that it was started with",
}
"""Keys without effect, by path, each with what Ashwood does instead."""

_FOR_CLASSES = {("optimizations",), ("perform_initial_validation",), ("scheduling_unit",)}
"""Keys of `IGNORED` that trial classes of Determined use, but no other training code."""


def effect(path: Path) -> str:
    """Return which effect a key of `IGNORED` has, and what Ashwood does instead."""
    which = "an effect only for trial classes of Determined" if path in _FOR_CLASSES else "no effect"
    return f"{which}; {IGNORED[path]}"


METHODS = {
    "adaptive": "use adaptive_asha, with max_trials instead of a budget",
    "adaptive_simple": "use adaptive_asha, which takes the same max_trials, max_length and mode",
    "asha": "use adaptive_asha, or async_halving for a single bracket",
    "bayesian": "use adaptive_asha, or random",
    "custom": "use adaptive_asha, or random to train every trial to full length; outside code can't drive a search",
    "hyperband": "use adaptive_asha, or sync_halving for a single bracket",
    "pbt": "use adaptive_asha, as population-based training isn't offered",
    "successive_halving": "use sync_halving, or adaptive_asha, which doesn't wait for slow trials",
    "tpe": "use adaptive_asha, or random",
}
"""Search methods of other tools, with what to use in Ashwood."""

_MAXIMIZE, _MINIMIZE = (f"for the direction, write smaller_is_better: {value}" for value in ("false", "true"))
DIRECTIONS = {"max": _MAXIMIZE, "maximize": _MAXIMIZE, "min": _MINIMIZE, "minimize": _MINIMIZE}
"""Values of ``mode`` in other tools, with what to write in Ashwood."""

_DIRECTION_KEYS: dict[str, str | Callable[[Any], str]] = dict.fromkeys(
    ("direction", "objective", "goal"), "unknown key; write smaller_is_better: false if a larger metric is better"
)
_PBT = "belongs to Determined's population-based training, which Ashwood does not have: remove it"
_BUDGET = "Ashwood has no budget over all trials: give max_trials and max_length"
_IN_ENVIRONMENT = "must not be in the file, which is recorded: set {} in the environment instead"
_BATCHES_PER_STEP = 100


def _length(unit: str, factor: int = 1) -> Callable[[Any], str]:
    """Return a function of the value of an old key, which says how to write it as max_length."""
    why = f" (a step was {factor} batches)" if factor > 1 else ""
    return lambda value: (
        f"unknown key: write max_length: {{{unit}: {shown(value * factor) if type(value) is int else 'n'}}}{why}"
    )


def _unit(value: Any) -> str:
    unit = value if value in ("batches", "records", "epochs") else "epochs"
    return f"unknown key: write the unit in max_length: {{{unit}: n}}"


REFUSED: dict[Path, dict[str, str | Callable[[Any], str]]] = {
    (): _DIRECTION_KEYS,
    ("searcher",): {
        **_DIRECTION_KEYS,
        "budget": _BUDGET,
        "unit": _unit,
        "step_budget": _BUDGET,
        **dict.fromkeys(("explore_function", "length_per_round", "num_rounds"), _PBT),
        **dict.fromkeys(("population_size", "replace_function"), _PBT),
        "max_validation_metric": "has no equivalent in Ashwood: remove it",
        "train_stragglers": "has no equivalent in Ashwood, which pauses these trials: remove it",
        **{f"{prefix}{unit}": _length(unit) for unit in ("batches", "records", "epochs") for prefix in ("", "max_")},
        **dict.fromkeys(
            ("target_trial_steps", "max_steps", "max_training_steps"), _length("batches", _BATCHES_PER_STEP)
        ),
    },
    ("checkpoint_storage",): {
        "access_key": _IN_ENVIRONMENT.format("AWS_ACCESS_KEY_ID"),
        "secret_key": _IN_ENVIRONMENT.format("AWS_SECRET_ACCESS_KEY"),
        "connection_string": _IN_ENVIRONMENT.format("AZURE_STORAGE_CONNECTION_STRING"),
        "credential": _IN_ENVIRONMENT.format("AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)"),
    },
    ("backend", "runtime_env"): {
        "working_dir": "can't be set here: Ashwood sends the work directory itself "
        "(or, with ship_code: false, looks for it on every node)",
        "py_modules": "can't be set here: Ashwood sends the work directory, and what is imported from it, itself; "
        "other packages are for pip, uv or conda",
    },
    ("resources", "custom_resources"): {
        "cpu": "can't be set here: write cpus_per_trial",
        "gpu": "can't be set here: write gpus_per_trial",
        "memory": "can't be set here: write memory_per_trial",
        "object_store_memory": "can't be set here: it is for Ray",
    },
}
"""Keys that are errors, by the path of their map, each with why, or with a function of the value that says why."""


def refusal(at: Path, name: str, value: Any) -> str | None:
    """Return why the map at a path can't have a key, and what to write instead, or None if the key isn't known."""
    message = REFUSED.get(at, {}).get(name.lower())
    return message if isinstance(message, str) or message is None else message(value)
