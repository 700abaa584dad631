"""Keys and names of Determined AI that Ashwood ignores or spells differently.

A file written for Determined is accepted.  Each key without effect gets a warning that says what
Ashwood does instead.
"""

from __future__ import annotations

from typing import Any

from ashwood.config.report import Report
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
        "mixed precision, gradient aggregation and compression are left to training code, which sets them itself"
    ),
    ("pachyderm",): "training code reads its data itself",
    ("pbs",): f"{_NO_CLUSTER} and submits nothing to PBS",
    (
        "perform_initial_validation",
    ): "training code decides whether it validates before training; the search doesn't ask for it",
    ("pool",): f"Ashwood has no pools: {_WHERE}",
    ("preemption_timeout",): "a trial that is preempted saves within 10 seconds, or resumes from its latest checkpoint",
    ("profiling",): "Ashwood doesn't profile; training code may use its framework's profiler",
    ("project",): "experiments aren't grouped into projects; use labels",
    ("retention_policy",): "logs are kept until you delete them",
    ("scheduling_unit",): ("the search answers at each report of training code, not after a fixed number of batches"),
    ("security",): "Ashwood runs as you, with your rights",
    ("slurm",): f"{_NO_CLUSTER} and submits nothing to Slurm",
    ("tensorboard_storage",): "Ashwood stores no TensorBoard files; training code may write them where it likes",
    ("webhooks",): "Ashwood calls no webhooks",
    ("workspace",): "experiments aren't grouped into workspaces; use labels",
    ("environment", "add_capabilities"): f"{_NO_CONTAINERS}: training code has your own rights",
    ("environment", "drop_capabilities"): f"{_NO_CONTAINERS}: training code has your own rights",
    ("environment", "force_pull_image"): f"{_NO_CONTAINERS}: there is no image to pull",
    ("environment", "image"): f"{_NO_CONTAINERS}; on a Ray cluster, backend.runtime_env says what it finds there",
    ("environment", "pod_spec"): f"{_NO_CONTAINERS} and without Kubernetes",
    ("environment", "ports"): f"{_NO_CONTAINERS}: training code may open any port there",
    ("environment", "proxy_ports"): f"{_NO_CONTAINERS}: training code's ports are the machine's",
    ("environment", "registry_auth"): f"{_NO_CONTAINERS}: no registry is used",
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

METHODS = {
    "adaptive": "use adaptive_asha, with max_trials instead of a budget",
    "adaptive_simple": "use adaptive_asha, which takes the same max_trials, max_length and mode",
    "asha": "use adaptive_asha, or async_halving for a single bracket",
    "bayesian": "use adaptive_asha, or random",
    "custom": ("use adaptive_asha, or random to train every trial to full length; outside code can't drive a search"),
    "hyperband": "use adaptive_asha, or sync_halving for a single bracket",
    "pbt": "use adaptive_asha, as population-based training isn't offered",
    "successive_halving": "use sync_halving, or adaptive_asha, which doesn't wait for slow trials",
    "tpe": "use adaptive_asha, or random",
}
"""Search methods of other tools, with what to use in Ashwood."""

_PBT = "belongs to Determined's population-based training, which isn't offered: leave it out"
_BUDGET = "Ashwood has no budget over all trials: give max_trials and max_length"
_OLD_KEYS = {
    "budget": _BUDGET,
    "explore_function": _PBT,
    "length_per_round": _PBT,
    "max_validation_metric": "not offered: leave it out",
    "num_rounds": _PBT,
    "population_size": _PBT,
    "replace_function": _PBT,
    "step_budget": _BUDGET,
    "train_stragglers": "not offered, as trials that fall behind are paused: leave it out",
}
_OLD_LENGTHS = {
    "max_batches": "batches",
    "max_records": "records",
    "max_epochs": "epochs",
    "batches": "batches",
    "records": "records",
    "epochs": "epochs",
}
_OLD_STEPS = ("target_trial_steps", "max_steps", "max_training_steps")
_BATCHES_PER_STEP = 100


def take_out_ignored(tree: dict[str, Any], report: Report) -> None:
    """Remove the keys that have no effect in Ashwood, and warn about each."""
    for path, instead in IGNORED.items():
        level: Any = tree
        for name in path[:-1]:
            level = level.get(name) if isinstance(level, dict) else None
        if isinstance(level, dict) and path[-1] in level and level.pop(path[-1]) is not None:
            report.warn(path, f"has no effect; {instead}")


def take_out_old_searcher_keys(tree: dict[str, Any], report: Report) -> None:
    """Remove the searcher's keys of old versions of Determined, and report each with its current spelling."""
    searcher = tree.get("searcher")
    if not isinstance(searcher, dict):
        return
    for key in [key for key in searcher if key in _OLD_KEYS or key in _OLD_LENGTHS or key in _OLD_STEPS]:
        value = searcher.pop(key)
        report.error(("searcher", key), _instead(key, value))
        if key not in _OLD_KEYS or key in ("budget", "step_budget"):
            report.excuse(("searcher", "max_length"))


def _instead(key: str, value: Any) -> str:
    if key in _OLD_KEYS:
        return _OLD_KEYS[key]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if key in _OLD_LENGTHS:
        return f"unknown key: write max_length: {{{_OLD_LENGTHS[key]}: {shown(value) if whole else 'n'}}}"
    batches = shown(value * _BATCHES_PER_STEP) if whole else "n"
    return f"unknown key: write max_length: {{batches: {batches}}} (a step was {_BATCHES_PER_STEP} batches)"
