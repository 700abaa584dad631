"""The section ``searcher`` to the settings of a search."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from ashwood.config.hyperparameters import HYPERPARAMETERS, count_settings, read_grid_size, searched
from ashwood.config.report import Report
from ashwood.config.shape import Searcher
from ashwood.config.wording import Path, any_of, counted, shown
from ashwood.experiment.spec import Length
from ashwood.search.plan import floor_log, rung_limit
from ashwood.search.settings import AUTO_DIVISOR, AUTO_MAX_RUNGS, Method, Mode, Sampler, SearchSettings
from ashwood.search.space import Tree

_ADAPTIVE, _ASYNC, _SYNC = Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING, Method.SYNC_HALVING
_METHODS_OF: dict[str, tuple[Method, ...]] = {
    "max_concurrent_trials": (_ADAPTIVE, _ASYNC, _SYNC, Method.RANDOM, Method.GRID),
    "mode": (_ADAPTIVE,),
    "max_rungs": (_ADAPTIVE,),
    "bracket_rungs": (_ADAPTIVE,),
    "divisor": (_ADAPTIVE, _ASYNC, _SYNC),
    "num_rungs": (_ASYNC, _SYNC),
    "stop_once": (_ADAPTIVE, _ASYNC),
    "sampler": (_ADAPTIVE, _ASYNC, _SYNC, Method.RANDOM),
}
"""Keys that not every method takes; max_trials has its own rules."""

_LARGER = re.compile(
    r"\b(accuracy|acc|auc|auroc|f1|precision|recall|reward|return|score|r2|bleu|rouge|map|iou|ndcg|mcc|kappa)\b"
)
_SMALLER = re.compile(r"\b(loss|error|mse|mae|rmse|perplexity)\b")
"""Words in names of metrics that tell the direction."""

_MOST_RUNGS = 1_000
_TRIAL = re.compile(r"\w+/\d+")
_PRINTED_CHECKPOINT = re.compile(r"\w+/trial-\d+/length-\d+-attempt-\d+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def read_search(searcher: Searcher, longest: Length | None, tree: Tree, report: Report) -> SearchSettings | None:
    """The settings of the search; None where something that they need is wrong, which is reported."""
    _check_metric(searcher, report)
    method = searcher.name
    if method is None:
        if not report.known_bad(_key("name")):
            report.error(_key("name"), f"is missing: the search method, {any_of(Method)}")
        return None
    _check_keys(searcher, method, report)
    max_trials = _read_max_trials(searcher, method, tree, report)
    auto = method is _ADAPTIVE and searcher.mode is Mode.AUTO and not searcher.bracket_rungs
    divisor = Fraction(repr(searcher.divisor))  # the decimal that was written: 2.7 is 27/10
    if auto and "divisor" not in searcher.model_fields_set:
        divisor = AUTO_DIVISOR
    if longest is None or max_trials is None or not _check_divisor(divisor, longest.count, max_trials, report):
        return None
    _check_rungs(searcher, method, divisor, longest, max_trials, report)
    return SearchSettings(
        method=method,
        max_length=longest.count,
        max_trials=max_trials,
        max_concurrent_trials=searcher.max_concurrent_trials,
        mode=searcher.mode,
        divisor=divisor,
        max_rungs=AUTO_MAX_RUNGS if auto and "max_rungs" not in searcher.model_fields_set else searcher.max_rungs,
        bracket_rungs=tuple(searcher.bracket_rungs),
        num_rungs=searcher.num_rungs,
        stop_once=searcher.stop_once,
        sampler=searcher.sampler or (Sampler.DENSITY if auto else Sampler.RANDOM),
    )


def _key(name: str) -> Path:
    return ("searcher", name)


def _check_metric(searcher: Searcher, report: Report) -> None:
    if searcher.metric is None and not report.known_bad(_key("metric")):
        report.error(_key("metric"), "is missing: the metric to compare, as training code reports it")
    words = (searcher.metric or "").lower().replace("_", " ")
    is_loss = _SMALLER.search(words) is not None
    if _LARGER.search(words) and not is_loss and "smaller_is_better" not in searcher.model_fields_set:
        report.warn(
            _key("metric"),
            f"{shown(searcher.metric)} sounds like a metric of which larger is better, but the search looks for the "
            "smallest: set smaller_is_better: false (or true, if smaller is better)",
        )
    elif is_loss and not searcher.smaller_is_better:
        report.warn(
            _key("smaller_is_better"),
            f"is false, but {shown(searcher.metric)} sounds like a metric of which smaller is better",
        )


def _check_keys(searcher: Searcher, method: Method, report: Report) -> None:
    for key, methods in _METHODS_OF.items():
        if key in searcher.model_fields_set and method not in methods:
            report.error(_key(key), f"is for {any_of(methods)}, not for {method}: leave it out")
    if searcher.bracket_rungs and method is _ADAPTIVE:
        for key in ("mode", "max_rungs"):
            if key in searcher.model_fields_set:
                report.warn(_key(key), "has no effect, since bracket_rungs says which brackets there are")


def _read_max_trials(searcher: Searcher, method: Method, tree: Tree, report: Report) -> int | None:
    given = searcher.max_trials
    varying = searched(tree)
    if method is Method.GRID:
        points = read_grid_size(tree, report)
        if given is not None and not report.known_bad_within(HYPERPARAMETERS):
            report.warn(
                _key("max_trials"), f"has no effect: a grid search tries each of its {counted(points, 'point')}"
            )
        return points
    if method is Method.SINGLE:
        if given is not None:
            report.error(_key("max_trials"), "is not for single, which trains one trial: leave it out, or use random")
        if varying:
            report.warn(_key("name"), f"single trains one trial, so {varying} will have one value, drawn at random")
        return 1
    if given is None and not report.known_bad(_key("max_trials")):
        report.error(_key("max_trials"), f"is missing: how many trials {method} shall create")
    if given is not None and given > 1 and not varying and not report.known_bad_within(HYPERPARAMETERS):
        report.warn(
            HYPERPARAMETERS, f"nothing varies (1 setting): all {counted(given, 'trial')} will have the same values"
        )
    elif given is not None and varying and (settings := count_settings(tree)) < given:
        report.warn(
            _key("max_trials"),
            f"is {given:,}, but the hyperparameters have only {counted(int(settings), 'different setting')}, so some "
            "trials will have the same",
        )
    return given


def _check_divisor(divisor: Fraction, max_length: int, max_trials: int, report: Report) -> bool:
    """So close to 1, rungs would be so many that exact arithmetic takes for ever."""
    if report.known_bad(_key("divisor")):
        return False
    largest = math.log(max(max_length, max_trials))
    if largest <= _MOST_RUNGS * math.log(divisor):
        return True
    least = math.ceil(math.exp(largest / _MOST_RUNGS) * 1_000) / 1_000
    report.error(_key("divisor"), f"{shown(float(divisor))} is too close to 1 to tell rungs apart: use {least} or more")
    return False


def _check_rungs(
    searcher: Searcher, method: Method, divisor: Fraction, longest: Length, max_trials: int, report: Report
) -> None:
    length = f"max_length {longest.count}"
    by_length = rung_limit(divisor, longest.count)
    if method is _ADAPTIVE:
        for position, rungs in enumerate(searcher.bracket_rungs):
            if not 1 <= rungs <= by_length:
                room = f"{length} has room for {counted(by_length, 'rung')} with divisor {float(divisor):g}"
                message = f"must be from 1 to {by_length}, not {shown(rungs)}: {room}"
                report.error((*_key("bracket_rungs"), position), message)
    if method in (_ASYNC, _SYNC) and searcher.num_rungs is not None:
        by_trials = 1 + floor_log(divisor, max_trials)
        most = min(by_length, by_trials)
        why = length if by_length <= by_trials else f"max_trials {max_trials}"
        if searcher.num_rungs > most:
            message = f"must be at most {most}, not {searcher.num_rungs}: {why} has room for {counted(most, 'rung')}"
            report.error(_key("num_rungs"), f"{message} with divisor {float(divisor):g}")


def read_source(searcher: Searcher, report: Report) -> str | None:
    """The checkpoint that every trial starts from, as text that the engine resolves."""
    trial, checkpoint = searcher.source_trial_id, searcher.source_checkpoint_uuid
    if trial is not None and checkpoint is not None:
        report.error(_key("source_checkpoint_uuid"), "names a checkpoint, as does source_trial_id: keep one of them")
    if trial is not None:
        if isinstance(trial, str) and _TRIAL.fullmatch(trial):
            return trial
        example = f"EXPERIMENT/{shown(trial)}" if isinstance(trial, int) else "EXPERIMENT/TRIAL"
        why = ", since trials are numbered within their experiment" if isinstance(trial, int) else ""
        report.error(_key("source_trial_id"), f"must read {example}, for example 3/17, not {shown(trial)}{why}")
    elif checkpoint is not None and _UUID.fullmatch(checkpoint):
        message = "is a checkpoint's id in Determined; give the directory of a checkpoint instead"
        report.error(_key("source_checkpoint_uuid"), f"{shown(checkpoint)} {message}")
    return checkpoint


def is_printed_checkpoint(text: str) -> bool:
    """Whether a source is named as Ashwood prints it, as opposed to a directory."""
    return bool(_TRIAL.fullmatch(text) or _PRINTED_CHECKPOINT.fullmatch(text))
