"""``searcher``: the search method and its settings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any

from ashwood.config import determined
from ashwood.config.hyperparameters import HYPERPARAMETERS, count_settings, read_grid_size, searched
from ashwood.config.kinds import (
    ANY,
    DURATION,
    FLAG,
    LENGTH_FORMS,
    UNITS,
    Kind,
    choice,
    length,
    list_of,
    map_of,
    number,
    parse_duration,
    single,
    text,
    whole,
)
from ashwood.config.report import Report
from ashwood.config.section import Section, key, section
from ashwood.config.storage import located
from ashwood.config.wording import Path, counted, shorten, shown
from ashwood.errors import nearest
from ashwood.experiment.spec import Length, Unit
from ashwood.search.given import read_given
from ashwood.search.guides import PastTrials
from ashwood.search.plan import floor_log, rung_limit
from ashwood.search.settings import (
    AUTO_DEFAULTS,
    DEFAULTS,
    MOST_RUNGS,
    MOST_TRIALS,
    NO_LENGTH,
    Method,
    Mode,
    Sampler,
    SearchSettings,
)
from ashwood.search.space import Space
from ashwood.views.wording import any_of

_DEFAULTS = {each.name: each.default for each in fields(SearchSettings)}
_ADAPTIVE, _ASYNC, _SYNC = Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING, Method.SYNC_HALVING
_HALVING = (_ADAPTIVE, _ASYNC, _SYNC)
_SAMPLED = (*_HALVING, Method.RANDOM)
_UNTIL_END = (Method.RANDOM, Method.GRID, Method.SINGLE)
_COUNT = whole(1)

_LARGER = re.compile(
    r"\b(accuracy|acc|auc|auroc|f1|precision|recall|reward|return|score|r2|bleu|rouge|map|iou|ndcg|mcc|kappa)\b"
)
_SMALLER = re.compile(r"\b(loss|error|mse|mae|rmse|perplexity)\b")
"""Words in the name of a metric that show whether a larger or a smaller one is better."""

_TRIAL = re.compile(r"\w+/\d+")
_PRINTED = re.compile(r"\w+/trial-\d+/length-\d+-attempt-\d+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class StopWhen(Section, at=("searcher", "stop_when")):
    """When to stop: the search stops when either bound is reached, and can be resumed with another bound."""

    metric_at: float | None = key(number(), "Stop when a trial reports this metric or a better one.", otherwise="never")
    max_time: float | None = key(
        DURATION,
        "Stop when drivers have run the search for this time: seconds, or text such as 90s, 15min, 2h, 1.5h or 3d.",
        otherwise="never",
    )


def _max_time(value: Any, path: Path, report: Report) -> Any:
    if isinstance(value, str) and parse_duration(value) is not None:
        raise ValueError(f"is a number of units of time_metric, not a duration; {_instead_of_max_time(value)}")
    return _COUNT.parse(value, path, report)


def _instead_of_max_time(value: Any) -> str:
    """Return advice on how to limit the time of a search, for a user who tries it with ``searcher.max_time``."""
    time = shorten(str(value), 40)
    after = time if isinstance(value, str) else f"{time} seconds"
    return f"to stop the search after {after}, write stop_when: {{max_time: {time}}}"


def _source_trial(value: Any) -> str:
    if isinstance(value, str) and _TRIAL.fullmatch(value):
        return value
    example = f"EXPERIMENT/{shown(value)}" if isinstance(value, int) else "EXPERIMENT/TRIAL"
    why = ", because each experiment numbers its own trials" if isinstance(value, int) else ""
    raise ValueError(f"must be {example}, for example 3/17, not {shown(value)}{why}")


def _past(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    if isinstance(value, str) and (value.isdigit() or value.endswith(".csv")):
        return value
    raise ValueError(f"must be the ID of an experiment or a .csv file, not {shown(value)}")


def _source_checkpoint(value: Any, path: Path, report: Report) -> Any:
    if isinstance(value, str) and _UUID.fullmatch(value):
        message = "is the id of a checkpoint in Determined; write the directory of a checkpoint instead"
        raise ValueError(f"{shown(value)} {message}")
    return text().parse(value, path, report)


@dataclass(frozen=True, kw_only=True)
class SearcherSection(Section, at=("searcher",), selector="name"):
    """The search method and its settings."""

    name: Method | None = key(
        choice(Method, "a search method", determined.METHODS),
        "The search method: adaptive_asha suits nearly every search.",
        required=f"the search method, {any_of(Method)}",
    )
    metric: str | None = key(
        text(),
        "The metric to compare, by the name that training code reports it under.",
        required="the metric to compare, as training code reports it",
    )
    smaller_is_better: bool = key(FLAG, "Whether a smaller metric is better.", True)
    max_length: Length | None = key(
        length(1),
        f"The longest training of a trial: {LENGTH_FORMS} of the steps that training code counts with trial.steps().",
        otherwise="required; for random, grid and single: the training code decides",
    )
    time_metric: str | None = key(text(), "With max_time, another way to write max_length: what training counts.")
    max_time: int | None = key(
        Kind(_COUNT.schema, _max_time), "With time_metric, another way to write max_length: how long training is."
    )
    max_trials: int | None = key(
        whole(1, MOST_TRIALS), "The number of trials to create.", otherwise="required, except for grid and single"
    )
    max_concurrent_trials: int = key(
        whole(),
        "How many trials may train at the same time; 0: as many as there are slots.",
        _DEFAULTS["max_concurrent_trials"],
        only=(*_SAMPLED, Method.GRID),
    )
    mode: Mode = key(
        choice(Mode, "a mode", determined.DIRECTIONS),
        "How early trials are stopped: aggressive, standard, conservative, or auto, which learns how early, and which "
        "hyperparameters are good.",
        _DEFAULTS["mode"],
        only=(_ADAPTIVE,),
    )
    sampler: Sampler | None = key(
        choice(Sampler, "a sampler"),
        "How hyperparameters are drawn: random, or density, which draws three of four trials near good trials.",
        otherwise=f"{DEFAULTS.sampler}; with mode: auto {AUTO_DEFAULTS.sampler}",
        only=_SAMPLED,
    )
    divisor: float | None = key(
        number(above=1),
        "1 in this many trials is promoted to the next rung; any number above 1.",
        otherwise=f"{float(DEFAULTS.divisor):g}; with mode: auto {float(AUTO_DEFAULTS.divisor):g}",
        only=_HALVING,
    )
    max_rungs: int | None = key(
        whole(1),
        "The largest number of rungs of a bracket.",
        otherwise=f"{DEFAULTS.max_rungs}; with mode: auto {AUTO_DEFAULTS.max_rungs}",
        only=(_ADAPTIVE,),
    )
    bracket_rungs: Sequence[int] = key(
        list_of(whole(None), most=100),
        "The number of rungs of each bracket, such as [4, 3].",
        (),
        otherwise="from mode",
        only=(_ADAPTIVE,),
    )
    num_rungs: int | None = key(
        whole(1),
        "The number of rungs of the one bracket.",
        otherwise=f"{DEFAULTS.max_rungs}, or what max_length and max_trials allow",
        only=(_ASYNC, _SYNC),
    )
    stop_once: bool = key(
        FLAG,
        "true: rank a trial once at each rung, when it reports: it is promoted at once or stopped permanently.  No "
        "trial pauses, so training code needs no checkpoints.",
        _DEFAULTS["stop_once"],
        only=(_ADAPTIVE, _ASYNC),
    )
    audit: float | None = key(
        number(least=0, below=1),
        "The share of promotions that are audits, from 0 to below 1: each promotes a trial that is drawn at random "
        "among all that wait in the rung, to check what early stopping misses.",
        otherwise=f"{float(DEFAULTS.audit):g}; with mode: auto {float(AUTO_DEFAULTS.audit):g}",
        only=(_ADAPTIVE, _ASYNC),
    )
    replicates: int = key(
        whole(0, MOST_TRIALS),
        "How many of the best trials train again with another seed, after all others and in addition to max_trials. "
        "The recommendation then goes by the mean of each setting.",
        _DEFAULTS["replicates"],
    )
    stop_when: StopWhen = key(section(StopWhen), "When to stop the search: at a metric, after a run time, or both.")
    start_with: Sequence[Mapping[str, Any]] = key(
        list_of(map_of(ANY)),
        "Hyperparameters of the first trials: a list with a map such as {lr: 0.1} for each of them; hyperparameters "
        "that a map does not contain are drawn.",
        (),
        otherwise="all are drawn",
        only=(*_SAMPLED, Method.SINGLE),
    )
    warm_start: Sequence[str] = key(
        list_of(single({"type": ["integer", "string"]}, _past)),
        "Past searches, near whose good settings trials are drawn as long as results agree: IDs of experiments in the "
        "same home, and CSV files with a column for each hyperparameter and for the metric.",
        (),
        otherwise="none",
        only=_SAMPLED,
    )
    source_trial_id: str | None = key(
        single({"type": "string", "pattern": r"^\w+/\d+$"}, _source_trial),
        "Start every trial from the latest checkpoint of this trial: EXPERIMENT/TRIAL, such as 3/17.",
    )
    source_checkpoint_uuid: str | None = key(
        Kind(text().schema, _source_checkpoint), "Start every trial from this checkpoint: its directory or URL."
    )


def read_search(
    searcher: SearcherSection, longest: Length | None, space: Space | None, report: Report
) -> SearchSettings | None:
    """Return the settings of the search, or None if a value that they need is wrong, which is reported.

    Args:
        searcher: the section.
        longest: the longest training of a trial.
        space: the hyperparameters, or None if the file holds only a search.
        report: collects problems.
    """
    _check_metric(searcher, report)
    if "stop_when" in searcher.given and not searcher.stop_when.given and not report.known_bad_within(StopWhen.at):
        report.error(StopWhen.at, f"must contain {any_of(StopWhen.declared())}, or both")
    method = searcher.name
    if method is None:
        return None
    if searcher.bracket_rungs and method is _ADAPTIVE:
        for name in ("mode", "max_rungs"):
            if name in searcher.given:
                report.warn(_key(name), "has no effect, because bracket_rungs defines the brackets")
    max_trials = _read_max_trials(searcher, method, space, report)
    auto = method is _ADAPTIVE and searcher.mode is Mode.AUTO and not searcher.bracket_rungs
    defaults = AUTO_DEFAULTS if auto else DEFAULTS
    # Take the decimal that the user wrote: 2.7 is 27/10, not the nearest binary fraction.
    divisor = defaults.divisor if searcher.divisor is None else Fraction(repr(searcher.divisor))
    if longest is None or max_trials is None or not _check_divisor(divisor, longest.count, max_trials, report):
        return None
    _check_rungs(searcher, divisor, longest.count, max_trials, report)
    if not _check_replicates(searcher, longest.count, max_trials, report):
        return None
    guided = _check_guides(searcher, space, report)
    audit = _read_audit(searcher, defaults.audit, report)
    return SearchSettings(
        method=method,
        max_length=longest.count,
        max_trials=max_trials,
        max_concurrent_trials=searcher.max_concurrent_trials,
        mode=searcher.mode,
        divisor=divisor,
        max_rungs=searcher.max_rungs or defaults.max_rungs,
        bracket_rungs=tuple(searcher.bracket_rungs),
        num_rungs=searcher.num_rungs,
        stop_once=searcher.stop_once,
        sampler=searcher.sampler or (Sampler.DENSITY if guided else defaults.sampler),
        audit=audit,
        replicates=searcher.replicates,
    )


def _read_audit(searcher: SearcherSection, default: Fraction, report: Report) -> Fraction:
    """Return the share of promotions that are audits; with ``stop_once`` there are none, and a share is reported."""
    if searcher.audit and searcher.stop_once:
        why = "promotes trials that are paused, but stop_once: true pauses none"
        report.error(_key("audit"), f"{why}: remove audit or stop_once")
    if searcher.stop_once:
        return Fraction(0)
    return default if searcher.audit is None else Fraction(repr(searcher.audit))


def _check_replicates(searcher: SearcherSection, max_length: int, max_trials: int, report: Report) -> bool:
    """Return whether the search can have its replicates; more of them than trials have a warning."""
    at, wanted = _key("replicates"), searcher.replicates
    if wanted and max_length == NO_LENGTH:
        why = "without it trials end at different lengths, so their results cannot be compared with replicates"
        report.error(at, f"needs max_length: {why}. Set max_length, or remove replicates")
        return False
    if wanted > max_trials:
        creates = f"the search creates {counted(max_trials, 'trial')}, and each is trained again at most once"
        report.warn(at, f"is {wanted:,}, but {creates}")
    return True


def _check_guides(searcher: SearcherSection, space: Space | None, report: Report) -> bool:
    """Return whether past searches or priors guide the sampler; a method or a sampler that ignores them is reported."""
    leaves = () if space is None else space.leaves()
    prior = next((path for path, leaf in leaves if leaf.prior is not None), None)
    found: list[Path] = [_key("warm_start")] if searcher.warm_start else []
    found += [(*HYPERPARAMETERS, *prior, "prior")] if prior is not None else []
    for path in found:
        if searcher.name not in _SAMPLED:
            report.warn(path, f"has no effect with {searcher.name}, which draws no trials near good ones")
        elif searcher.sampler is Sampler.RANDOM:
            report.error(path, "needs sampler: density, because sampler: random ignores it: remove sampler")
    return bool(found) and searcher.name in _SAMPLED


def _key(name: str) -> Path:
    return ("searcher", name)


def _check_metric(searcher: SearcherSection, report: Report) -> None:
    words = (searcher.metric or "").lower().replace("_", " ")
    is_loss = _SMALLER.search(words) is not None
    if _LARGER.search(words) and not is_loss and "smaller_is_better" not in searcher.given:
        sounds = "sounds like a metric for which larger is better, but the search looks for the smallest"
        fix = "set smaller_is_better: false (or true, if smaller is better)"
        report.warn(_key("metric"), f"{shown(searcher.metric)} {sounds}: {fix}")
    elif is_loss and not searcher.smaller_is_better:
        sounds = "sounds like a metric for which smaller is better"
        report.warn(_key("smaller_is_better"), f"is false, but {shown(searcher.metric)} {sounds}")


def _read_max_trials(searcher: SearcherSection, method: Method, space: Space | None, report: Report) -> int | None:
    at, given, varying = _key("max_trials"), searcher.max_trials, searched(space or Space({}))
    if method is Method.GRID:
        if space is None:
            report.missing(HYPERPARAMETERS, "a grid search needs them, because each of their combinations is a trial")
            return None
        points = read_grid_size(space, report)
        if given is not None and not report.known_bad_within(HYPERPARAMETERS):
            report.warn(at, f"has no effect: a grid search tries each of its {counted(points, 'point')}")
        return points
    if method is Method.SINGLE:
        if given is not None:
            report.error(at, "is not for single, which trains one trial: remove it, or use random")
        if varying and not searcher.start_with:
            report.warn(_key("name"), f"single trains one trial, so {varying} will have one value, drawn at random")
        return 1
    if given is None:
        report.missing(at, f"how many trials {method} creates")
    elif space is None:
        return given
    elif given > 1 and not varying and not report.known_bad_within(HYPERPARAMETERS):
        same = f"all {counted(given, 'trial')} will have the same values"
        report.warn(HYPERPARAMETERS, f"no hyperparameter varies: {same}")
    elif varying and (settings := count_settings(space)) < given:
        only = f"the hyperparameters have only {counted(int(settings), 'different setting')}"
        report.warn(at, f"is {given:,}, but {only}, so some trials will have equal values")
    return given


def read_starts(
    searcher: SearcherSection, space: Space, search: SearchSettings, report: Report
) -> list[dict[str, Any]]:
    """Return the hyperparameters of ``start_with``, by dotted name.  Wrong ones are reported."""
    if report.known_bad_within(HYPERPARAMETERS):
        return []
    at = _key("start_with")
    if (extra := len(searcher.start_with) - search.max_trials) > 0:
        trials = f"for {counted(len(searcher.start_with), 'trial')}, but the search creates {search.max_trials:,}"
        raise_it = "" if search.method is Method.SINGLE else ", or raise max_trials"
        report.error(at, f"has hyperparameters {trials}: remove {extra:,}{raise_it}")
    starts = []
    for position, settings in enumerate(searcher.start_with):
        given = read_given(space, settings)
        for path, message in given.errors:
            if not report.known_bad((*at, position, *path)):
                report.error((*at, position, *path), message)
        for path, message in given.warnings:
            report.warn((*at, position, *path), message)
        starts.append(given.values)
    return starts


def _check_divisor(divisor: Fraction, max_length: int, max_trials: int, report: Report) -> bool:
    """Return whether the divisor is large enough; one too close to 1 is reported.

    The number of rungs grows without limit as the divisor approaches 1, and rungs are computed with exact arithmetic.
    """
    if report.known_bad(_key("divisor")):
        return False
    largest = math.log(max(max_length, max_trials))
    if largest <= MOST_RUNGS * math.log(divisor):
        return True
    least = math.ceil(math.exp(largest / MOST_RUNGS) * 1_000) / 1_000
    report.error(_key("divisor"), f"{shown(float(divisor))} is too close to 1: use {least} or more, for fewer rungs")
    return False


def _check_rungs(
    searcher: SearcherSection, divisor: Fraction, max_length: int, max_trials: int, report: Report
) -> None:
    by_length, by_trials = rung_limit(divisor, max_length), 1 + floor_log(divisor, max_trials)
    with_divisor = f"with divisor {float(divisor):g}"
    for position, rungs in enumerate(searcher.bracket_rungs):
        if not 1 <= rungs <= by_length:
            room = f"max_length {max_length} has room for {counted(by_length, 'rung')} {with_divisor}"
            report.error((*_key("bracket_rungs"), position), f"must be from 1 to {by_length}, not {rungs}: {room}")
    if searcher.mode is Mode.AUTO:  # It may have one rung more; see `ashwood.search.plan`.
        by_length += divisor ** (by_length - 1) < max_length
    most = min(by_length, by_trials)
    why = f"max_length {max_length}" if by_length <= by_trials else f"max_trials {max_trials}"
    for name, wanted in (("num_rungs", searcher.num_rungs), ("max_rungs", searcher.max_rungs)):
        if wanted is not None and wanted > most and not searcher.bracket_rungs:
            room = f"{why} has room for {counted(most, 'rung')} {with_divisor}"
            report.warn(_key(name), f"{wanted} is reduced to {most}: {room}")


def read_max_length(searcher: SearcherSection, report: Report) -> Length | None:
    """Return ``max_length``, or ``max_time`` with ``time_metric``, or None if it is wrong, which is reported.

    Without any of them, training code decides how long a trial trains, if the method stops no trial early.
    """
    metric, time = searcher.time_metric, searcher.max_time
    given = [name for name, value in (("max_time", time), ("time_metric", metric)) if value is not None]
    if searcher.max_length is not None:
        return _compare_lengths(searcher.max_length, metric, time, report) if given else searcher.max_length
    if not given and not report.known_bad(_key("max_time")) and not report.known_bad(_key("time_metric")):
        if searcher.name in _UNTIL_END and not report.known_bad_within(_key("max_length")):
            return Length(NO_LENGTH, Unit.STEPS)
        later = "or time_metric: epochs and max_time: n, as in Determined 0.38"
        report.missing(_key("max_length"), f"how long to train a trial at most, {LENGTH_FORMS}; {later}")
        return None
    if metric is None:
        instead = f"write max_length: {{epochs: {time}}}; {_instead_of_max_time(time)}"
        report.missing(_key("time_metric"), f"max_time needs time_metric, for example epochs; or {instead}")
        return None
    if time is None:
        other = f"{{{metric}: n}}" if metric in UNITS else "n"
        report.missing(_key("max_time"), f"time_metric needs max_time; or write max_length: {other}")
        return None
    if metric in UNITS:
        return Length(time, Unit(metric))
    close = nearest(metric, UNITS)
    meant = f"; if it does not, and you mean {close}, write {close}" if close else ""
    counted_as = "so max_time counts steps, which training code for Determined reports as the metric of this name"
    report.warn(_key("time_metric"), f"{shown(metric)} is not a unit of Ashwood, {counted_as}{meant}")
    return Length(time, Unit.STEPS)


def _compare_lengths(length: Length, metric: str | None, time: int | None, report: Report) -> Length:
    """Return ``max_length`` of a file that also has ``time_metric``, ``max_time`` or both; a contradiction is reported.

    A bare number of max_length gets the unit of time_metric.
    """
    name = "time_metric" if time is None else "max_time"
    unit = length.unit if metric is None else Unit(metric) if metric in UNITS else Unit.STEPS
    if (time is None or time == length.count) and (unit is length.unit or length.unit is Unit.STEPS):
        report.warn(_key(name), "says the same as max_length, so one of the two can be removed")
        return Length(length.count, unit)
    said = f"{length.count}" if length.unit is Unit.STEPS else f"{{{length.unit}: {length.count}}}"
    clock = "" if metric is not None else f"; {_instead_of_max_time(time)}"
    report.error(_key(name), f"contradicts max_length, which is {said}: remove one of the two{clock}")
    return length


def read_source(searcher: SearcherSection, workdir: FilePath, report: Report) -> str | None:
    """Return the checkpoint that every trial starts from, as a printed name, a URL or an absolute path, or None."""
    trial, checkpoint = searcher.source_trial_id, searcher.source_checkpoint_uuid
    if trial is not None and checkpoint is not None:
        report.error(_key("source_checkpoint_uuid"), "cannot be used with source_trial_id: remove one of the two")
    if trial is not None or checkpoint is None or _TRIAL.fullmatch(checkpoint) or _PRINTED.fullmatch(checkpoint):
        return trial or checkpoint
    return located(checkpoint, workdir)


def read_warm_start(searcher: SearcherSection, workdir: FilePath, report: Report) -> tuple[PastTrials, ...]:
    """Return the past searches, of which only the sources are known yet: IDs of experiments and paths of files."""
    if report.known_bad_within(_key("warm_start")):
        return ()
    past: dict[str, PastTrials] = {}
    for index, each in enumerate(searcher.warm_start):
        source = str(int(each)) if each.isdigit() else located(each, workdir)
        if source in past:
            report.error((*_key("warm_start"), index), f"{shorten(each)} is already in the list: remove it")
        past[source] = PastTrials(source)
    return tuple(past.values())
