"""The data of an experiment file that describes an experiment: the inverse of reading one, for those made in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from ashwood.config.hyperparameters import LEAVES
from ashwood.experiment.spec import ExperimentSpec, Length, SaveOn, Unit
from ashwood.search.guides import Confidence
from ashwood.search.settings import AUTO_DEFAULTS, DEFAULTS, Method, Mode, Sampler, SearchSettings
from ashwood.search.space import Const, Group, Hyperparameter, Tree
from ashwood.views.plain import plain

_DEFAULTS = {each.name: each.default for each in fields(ExperimentSpec)}
_SAME = (
    *("description", "records_per_epoch", "max_restarts", "max_preemptions", "reuse_workers", "grace_period"),
    *("max_silence", "max_log_size", "max_trial_time", "max_invalid_trials", "max_common_failures"),
)
"""Keys of the file that the spec has under the same name, and that are left out if they are None or the default."""


def tree_of(spec: ExperimentSpec) -> dict[str, Any]:
    """Return the data of an experiment file with the settings of an experiment, without those of its cluster."""
    tree: dict[str, Any] = {"name": spec.name, "entrypoint": spec.entrypoint.target}
    tree |= {"labels": list(spec.labels)} if spec.labels else {}
    tree |= {"data": plain(spec.data)} if spec.data else {}
    tree["hyperparameters"] = _hyperparameters(spec.space.tree)
    tree |= {"constraints": list(spec.space.constraints)} if spec.space.constraints else {}
    tree["searcher"] = dict(_searcher(spec))
    tree |= {name: value for name in _SAME if (value := getattr(spec, name)) not in (None, _DEFAULTS[name])}
    for name in ("min_validation_period", "min_checkpoint_period"):
        if (period := getattr(spec, name)) is not None:
            tree[name] = _length(period)
    if spec.save_on is not SaveOn.BEST:
        tree["checkpoint_policy"] = spec.save_on.value
    if spec.slots_per_trial != 1:
        tree["resources"] = {"slots_per_trial": spec.slots_per_trial}
    if spec.environment:
        tree["environment"] = {"environment_variables": dict(spec.environment)}
    return {**tree, "reproducibility": {"experiment_seed": spec.seed}}


def _searcher(spec: ExperimentSpec) -> Iterator[tuple[str, Any]]:
    search = spec.search
    yield "name", search.method.value
    yield "metric", spec.metric
    yield "smaller_is_better", spec.smaller_is_better
    if not search.open_ended:
        yield "max_length", _length(Length(search.max_length, spec.unit))
    if search.method not in (Method.GRID, Method.SINGLE):
        yield "max_trials", search.max_trials
    if search.method is not Method.SINGLE:
        yield "max_concurrent_trials", search.max_concurrent_trials
    yield from _rungs(search)
    defaults = AUTO_DEFAULTS if search.method is Method.ADAPTIVE_ASHA and search.mode is Mode.AUTO else DEFAULTS
    if search.sampler is not defaults.sampler or (defaults is AUTO_DEFAULTS and search.sampler is not Sampler.DENSITY):
        yield "sampler", search.sampler.value
    if search.stop_once:
        yield "stop_once", True
    if search.can_audit and search.audit != (DEFAULTS if search.bracket_rungs else defaults).audit:
        yield "audit", float(search.audit)
    bounds = {"metric_at": spec.metric_at, "max_time": spec.max_time}
    if given := {name: bound for name, bound in bounds.items() if bound is not None}:
        yield "stop_when", given
    if spec.start_with:
        yield "start_with", [plain(given) for given in spec.start_with]
    if spec.warm_start:
        yield "warm_start", [past.source for past in spec.warm_start]
    if spec.source_checkpoint is not None:
        yield "source_checkpoint_uuid", spec.source_checkpoint


def _rungs(search: SearchSettings) -> Iterator[tuple[str, Any]]:
    if search.method is Method.ADAPTIVE_ASHA:
        if search.bracket_rungs:
            yield "bracket_rungs", list(search.bracket_rungs)
        else:
            yield "mode", search.mode.value
            yield "max_rungs", search.max_rungs
    elif search.num_rungs is not None:
        yield "num_rungs", search.num_rungs
    if search.method.is_halving:
        divisor = float(search.divisor)
        yield "divisor", int(divisor) if divisor.is_integer() else divisor


def _hyperparameters(tree: Tree) -> dict[str, Any]:
    return {
        name: _hyperparameters(node) if isinstance(node, Mapping) else _hyperparameter(node)
        for name, node in tree.items()
    }


def _hyperparameter(node: Hyperparameter | Group) -> Any:
    if isinstance(node, Group):
        return {"when": plain(node.when), **_hyperparameters(node.tree)}
    if isinstance(node, Const) and node.when is None and not isinstance(node.val, Mapping):
        return plain(node.val)
    kind = next(name for name, each in LEAVES.items() if each.make is type(node))
    given = {each.name: getattr(node, each.name) for each in fields(node) if getattr(node, each.name) != each.default}
    if (
        node.prior is not None
        and node.prior.confidence is Confidence.MEDIUM
        and not isinstance(node.prior.value, Mapping)
    ):
        given["prior"] = node.prior.value
    return {"type": kind} | plain(given)


def _length(length: Length) -> Any:
    return length.count if length.unit is Unit.STEPS else {length.unit.value: length.count}
