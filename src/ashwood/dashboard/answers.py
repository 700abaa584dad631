"""The JSON answers of the API about experiments: each is a dataclass, beside the function that fills it.

The OpenAPI schema is made from these classes.  Times are in seconds since 1970, durations in seconds.

A row of the table of trials is flat.  Besides fixed names, it has ``best.NAME`` and ``seen.NAME`` for the search's
metric (the best result and the best report), ``last.NAME`` for the last report of each metric, and ``hparams.NAME`` for
each hyperparameter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

from ashwood.checkpoints.port import is_foreign
from ashwood.dashboard.experiment_cache import CachedExperiment, ExperimentCache, ListedExperiment
from ashwood.dashboard.trial_answers import copies, download_path, table_row
from ashwood.errors import AshwoodError, EventLogError, RequestRefused
from ashwood.eventlog.port import Seq
from ashwood.experiment.entry import Entry
from ashwood.experiment.lifecycle import Action, ExperimentState, TrialState, allowed_actions
from ashwood.experiment.spec import ExperimentSpec, source_of
from ashwood.forecast.time_left import Forecaster
from ashwood.search.conditions import parse_test
from ashwood.search.settings import Method
from ashwood.search.space import Categorical, Const, Int, Log, Space, ends_of
from ashwood.views.descriptions import describe_event
from ashwood.views.event_groups import group_decisions
from ashwood.views.failures import group_failures
from ashwood.views.progress import Progress
from ashwood.views.recommendation import recommendation_record
from ashwood.views.spending import nodes_of
from ashwood.views.trust import TrustReading
from ashwood.views.wording import known_length

T = TypeVar("T")
Row: TypeAlias = dict[str, Any]

INTERRUPTED = "interrupted"
"""State of an experiment whose driver ended without releasing its lease."""
DAMAGED = "damaged"
"""State of an experiment whose event log or specification is damaged."""
_OFFERED = [action for action in Action if action is not Action.RETRY_FAILED]
_MOST_DECISIONS = 50
_MOST_EXAMPLES = 5
_MOST_BESTS = 8


@dataclass(frozen=True)
class ErrorDetail:
    """An error: ``what`` went wrong, a ``hint`` that says what to do, and the wrong ``fields`` of the request."""

    what: str
    hint: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorAnswer:
    """The body of every error response."""

    error: ErrorDetail

    @classmethod
    def of(cls, error: AshwoodError) -> ErrorAnswer:
        """Return the body for an error: the part of its message before the first semicolon, and the hint after it."""
        what, _, hint = str(error).partition("; ")
        return cls(ErrorDetail(what, hint, error.fields if isinstance(error, RequestRefused) else {}))


@dataclass(frozen=True)
class HomeAnswer:
    """The home that the dashboard shows."""

    name: str
    version: str
    read_only: bool


@dataclass(frozen=True)
class MetricValue:
    """A value of the metric, with its trial, length and time."""

    trial: int
    metric: float
    length: int
    at: float


@dataclass(frozen=True, kw_only=True)
class ExperimentSummary:
    """An experiment in a list.

    ``driven``: whether a driver runs it; ``can_resume``: whether its state allows that a driver is started; ``mode`` is
    empty if the method has no modes, or its brackets are given; ``max_length`` is null if training code decides how
    long it trains; ``trials_created`` counts the planned trials that were created, to which ``replicates_created`` are
    added; ``source`` is the experiment from whose file it was started, or null;
    ``damage`` says what is damaged and what to do, if the state is ``damaged``.
    """

    id: int
    name: str
    state: str
    driven: bool = False
    can_resume: bool = False
    labels: Sequence[str]
    archived: bool
    created_at: float
    method: str = ""
    mode: str = ""
    metric: str = ""
    smaller_is_better: bool = True
    unit: str = ""
    max_length: int | None = 0
    fraction: float = 0.0
    seconds_left: float | None = None
    seconds: float | None = None
    trials: Mapping[str, int] = field(default_factory=dict)
    trials_created: int = 0
    trials_planned: int | None = None
    replicates_created: int = 0
    best: MetricValue | None = None
    source: int | None = None
    damage: str | None = None


@dataclass(frozen=True)
class ExperimentList:
    """The list of all experiments, the latest first."""

    experiments: list[ExperimentSummary]


@dataclass(frozen=True)
class DeletedExperiment:
    """The number of an experiment that was deleted."""

    deleted: int


@dataclass(frozen=True)
class RungCounts:
    """A rung of a bracket, with counts of its trials.

    ``length`` is null if training code decides how long it trains: the rung is the end of each trial.
    ``arrived``: compared at the rung; ``promoted``: promoted from it; ``audits``: promoted from it because they were
    drawn at random; ``failed``: ended before they were compared, or while paused; ``killed``: those of them that a user
    killed; ``training``: training towards it now; ``waiting``: paused at it, and may still be promoted.
    """

    length: int | None
    arrived: int
    promoted: int
    audits: int
    failed: int
    killed: int
    training: int
    waiting: int


@dataclass(frozen=True)
class BracketCounts:
    """A bracket: how many trials it plans and has created, and its rungs."""

    number: int
    planned: int
    created: int
    rungs: list[RungCounts]


@dataclass(frozen=True)
class NodeSlots:
    """A machine of a cluster, its number of slots, and the trials that it trains."""

    name: str
    slots: int
    trials: Sequence[int]


@dataclass(frozen=True)
class CurrentSettings:
    """The current values of the settings that can change while an experiment runs."""

    max_concurrent_trials: int
    max_trials: int
    max_invalid_trials: int
    replicates: int
    metric_at: float | None
    max_time: float | None
    max_size: int | None


@dataclass(frozen=True)
class RecommendedSetting:
    """The results at max_length of the trial to use and of its replicates; the words say the same in a sentence."""

    trial: int
    length: int
    results: list[float | None]
    seeds: int
    mean: float | None
    spread: float | None
    expected: float | None
    noise: float
    words: str | None


@dataclass(frozen=True, kw_only=True)
class ExperimentHeader(ExperimentSummary):
    """The current state of an experiment; ``read`` is the fraction of its event log that the state includes.

    ``best`` is the best result so far, and the result of the recommended trial when all trials have been compared:
    ``recommended`` is null until then.  ``seen`` is the best report if it is better than the best result of all trials,
    because no checkpoint was saved at its length.  ``diverged`` counts the trials whose latest report has
    a metric that is NaN or infinite.  ``can`` says which actions its state allows.  ``notes`` has a version of the note
    on the experiment (key empty) and of each note on a trial (key: its number), which differs after a change.
    """

    seen: MetricValue | None
    recommended: RecommendedSetting | None
    why_ended: str
    utilisation: float
    slots: int
    slots_in_use: int
    nodes: list[NodeSlots]
    reports: int
    failed_attempts: int
    diverged: int
    length_trained: int
    length_repeated: int
    length_expected: float | None
    warnings: list[str]
    brackets: list[BracketCounts]
    settings: CurrentSettings
    can: dict[str, bool]
    notes: dict[str, str]
    seq: int
    read: float


@dataclass(frozen=True)
class SearchedHyperparameter:
    """A hyperparameter that is searched: its choices, or the bounds of its numbers, which are ``whole`` or not.

    ``when`` contains its conditions: the name of another hyperparameter, and what its value must be, as the sign and
    the values of a `Test`.
    """

    name: str
    choices: Sequence[Any] | None = None
    least: float | None = None
    most: float | None = None
    whole: bool = False
    step: float | None = None
    ordered: bool = False
    when: Sequence[tuple[str, str, Sequence[Any]]] = ()


@dataclass(frozen=True, kw_only=True)
class ExperimentPage(ExperimentHeader):
    """An experiment, with what does not change unless its search is extended, and its best trial.

    The best trial is a row with ``hyperparameters``, ``as_yaml``, ``as_python``, and ``download`` and ``place`` of its
    best checkpoint.  ``bests`` are the last results that were the best so far, the latest first and
    one for each trial in a row.
    """

    description: str
    seed: int
    entrypoint: str
    workdir: str
    config: str
    provenance: Mapping[str, Any]
    divisor: float
    lengths: Sequence[Sequence[int | None]]
    searched: list[SearchedHyperparameter]
    constraints: Sequence[str]
    best_trial: Row | None
    bests: list[MetricValue]


@dataclass(frozen=True)
class Sparkline:
    """The best metric so far as a few points, each the seconds that drivers had run and the metric."""

    points: list[list[float]]


@dataclass(frozen=True)
class TrustAnswer:
    """The reading of the trust meter, or null if the search stops no trial early."""

    reading: TrustReading | None


@dataclass(frozen=True)
class EventLine:
    """A readable line for an entry of the event log."""

    seq: int
    at: float
    trial: int | None
    text: str
    decided: list[str]


@dataclass(frozen=True)
class EventPage:
    """Entries of the event log, the oldest first; ``first`` is the lowest sequence number that was searched."""

    events: list[EventLine]
    first: int
    last: int


@dataclass(frozen=True)
class MeasuredTraining:
    """What an experiment has measured, for the preview of another search; null if nothing was measured yet."""

    workers: int | None
    unit_seconds: float | None


@dataclass(frozen=True)
class FailedTrials:
    """Trials that failed or diverged for one cause; ``where`` and ``q`` select them in the table of trials."""

    kind: str
    text: str
    trials: Sequence[int]
    where: list[str]
    q: str


@dataclass(frozen=True)
class FailureList:
    """Failed and diverged trials, grouped by cause, the largest group first; ``trials`` has the first of each group."""

    groups: list[FailedTrials]


@dataclass(frozen=True)
class FigureOption:
    """An option of a figure.

    ``allowed`` lists its values, or is null for a flag or a number.  ``offered`` lists values of a number for a menu.
    """

    name: str
    title: str
    kind: str
    default: str | int | bool | None
    allowed: list[str] | None
    least: int | None = None
    most: int | None = None
    offered: list[int] | None = None


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure that can be drawn, with its options."""

    name: str
    title: str
    about: str
    options: list[FigureOption]


def same_fields(answer: type, source: object) -> dict[str, Any]:
    """Return the fields of an answer that are attributes of the same name of a record, a spec or a view."""
    return {each.name: getattr(source, each.name) for each in fields(answer) if hasattr(source, each.name)}


def list_experiments(cache: ExperimentCache) -> list[ExperimentSummary]:
    """Return all experiments, the latest first."""
    return [_summarize(cache, listed) for listed in reversed(cache.list_experiments())]


def _summarize(cache: ExperimentCache, listed: ListedExperiment) -> ExperimentSummary:
    damage, spec = listed.record.damage, None
    try:
        spec = cache.spec(listed.record.id)
    except EventLogError as error:
        damage = str(error)
    return summarize(listed, spec, damage)


def summarize(listed: ListedExperiment, spec: ExperimentSpec | None, damage: str | None = None) -> ExperimentSummary:
    """Return an experiment's entry in the list, from the latest summary that its driver stored.

    Args:
        listed: what the store lists of the experiment.
        spec: its specification, or None if that is damaged.
        damage: what is damaged; nothing of the stored summary is shown then.
    """
    record, summary, now = listed.record, listed.record.summary, time.time()
    common = same_fields(ExperimentSummary, record)
    if spec is not None:
        common |= same_fields(ExperimentSummary, spec.search)
        if spec.search.method is not Method.ADAPTIVE_ASHA or spec.search.bracket_rungs:
            common["mode"] = ""
        # The search may have been extended.
        common["max_length"] = summary.get("max_length", known_length(spec.search.max_length))
        common |= {"metric": spec.metric, "smaller_is_better": spec.smaller_is_better, "unit": spec.unit}
        common["source"] = source_of(spec.provenance)
    if damage is not None:
        return ExperimentSummary(**common | {"state": DAMAGED, "damage": damage})
    state = INTERRUPTED if record.state.active and not listed.driven else record.state
    left, ran = summary.get("seconds_left"), summary.get("seconds")
    # A summary that was stored without a driver has no time, and nothing has passed since.
    since = 0.0 if (at := summary.get("at")) is None else max(0.0, now - at)
    known = {
        "state": state,
        "driven": listed.driven,
        "can_resume": Action.ACTIVATE in allowed_actions(record.state, interrupted=state == INTERRUPTED),
        "fraction": summary.get("fraction", 0.0),
        "seconds_left": None if left is None or state != ExperimentState.RUNNING else max(0.0, left - since),
        "seconds": ran + since if listed.driven and ran is not None else ran,
        "trials": summary.get("trials", {}),
        "trials_created": summary.get("trials_created", sum(summary.get("trials", {}).values())),
        "replicates_created": summary.get("replicates_created", 0),
        "trials_planned": summary.get("trials_planned"),
        "best": summary.get("best"),
    }
    return ExperimentSummary(**common | known)


def header(cached: CachedExperiment) -> ExperimentHeader:
    """Return the current state of an experiment: its list entry, updated from its event log."""
    return ExperimentHeader(**_header(cached))


def _header(cached: CachedExperiment) -> dict[str, Any]:
    listed = cached.cache.list_experiment(cached.id)
    progress, spending, now = cached.history.progress, cached.history.progress.trials.spending, time.time()
    interrupted = listed.record.state.active and not listed.driven and progress.state.active
    runs = progress.state.active and not interrupted
    allowed = allowed_actions(progress.state, interrupted=interrupted)
    if cached.spec.search.method is Method.GRID:  # It tries only its grid.
        allowed -= {Action.ADD_TRIAL}
    forecast, states = Forecaster(progress).forecast(), progress.trials.states
    return {
        **vars(summarize(listed, cached.spec)),
        # The event log is newer than the summary, which the driver writes once a second.
        **same_fields(ExperimentHeader, progress),
        "max_length": known_length(progress.spec.search.max_length),
        "state": INTERRUPTED if interrupted else progress.state,
        "driven": runs,
        "can_resume": Action.ACTIVATE in allowed,
        "fraction": round(forecast.fraction, 4),
        "trials": {str(state): states[state] for state in TrialState if states[state]},
        "best": progress.result and MetricValue(*progress.result),
        "diverged": progress.trials.diverged,
        "seen": progress.seen and MetricValue(*progress.seen),
        "recommended": _recommended(progress),
        "seconds": spending.driven(now) if runs else spending.driver_seconds,
        "utilisation": spending.utilisation(now if runs else None),
        "slots": spending.slots if runs else 0,
        "slots_in_use": len(spending.live) if runs else 0,
        "nodes": [NodeSlots(*node) for node in nodes_of(spending)] if runs else [],
        "length_expected": None if cached.spec.search.open_ended else round(forecast.total_length, 1),
        "warnings": list(progress.recent_warnings),
        "brackets": [
            BracketCounts(
                bracket.number,
                bracket.planned,
                bracket.created,
                [
                    RungCounts(
                        **same_fields(RungCounts, rung)
                        | {
                            "length": known_length(rung.length),
                            "training": len(rung.training),
                            "waiting": len(rung.waiting),
                        }
                    )
                    for rung in bracket.rungs
                ],
            )
            for bracket in progress.ladder.brackets
        ],
        "settings": _settings(cached),
        "can": {action: action in allowed for action in _OFFERED},
        "notes": _note_versions(cached),
        "seq": cached.seq,
        "read": cached.fraction_read,
    }


def _recommended(progress: Progress) -> RecommendedSetting | None:
    record = recommendation_record(next(iter(progress.recommendations()), None))
    return None if record is None else RecommendedSetting(**record, words=progress.describe_recommendation())


def _note_versions(cached: CachedExperiment) -> dict[str, str]:
    digests = cached.cache.home.store.note_digests(cached.id)
    return {"" if trial is None else str(trial): str(digest) for trial, digest in digests.items()}


def _settings(cached: CachedExperiment) -> CurrentSettings:
    progress = cached.history.progress
    return CurrentSettings(
        max_concurrent_trials=progress.max_concurrent_trials,
        max_trials=progress.trials_planned,
        max_invalid_trials=progress.max_invalid_trials,
        replicates=progress.ladder.replicates_wanted,
        metric_at=progress.bounds.metric_at,
        max_time=progress.bounds.max_time,
        max_size=progress.bounds.max_size,
    )


def experiment_page(cached: CachedExperiment) -> ExperimentPage:
    """Return an experiment's page: its header, what changes only with its search, and its best trial."""
    spec = cached.spec
    return ExperimentPage(
        **_header(cached),
        description=spec.description,
        seed=spec.seed,
        entrypoint=spec.entrypoint.target,
        workdir=spec.workdir,
        config=spec.config_text,
        provenance=spec.provenance,
        divisor=float(spec.search.divisor),
        lengths=[[known_length(length) for length in lengths] for lengths in cached.history.ladder.lengths],
        searched=list(_searched(spec.space)),
        constraints=spec.space.constraints,
        best_trial=_best_trial(cached),
        bests=_bests(cached.history.progress),
    )


def _bests(progress: Progress) -> list[MetricValue]:
    """Return the last new bests, the latest first; of several in a row by one trial, only its last one."""
    found: list[MetricValue] = []
    for each in reversed(progress.improvements):
        if not found or found[-1].trial != each.trial:
            found.append(MetricValue(each.trial, each.metric, each.length, each.at))
        if len(found) == _MOST_BESTS:
            break
    return found


def _searched(space: Space) -> Iterator[SearchedHyperparameter]:
    conditional = {path: conditions for path, _, conditions in space.conditional()}
    for path, leaf in space.leaves():
        name = ".".join(path)
        whens = [item for each in conditional.get(path, ()) for item in each.when.items()]
        when = [(other, *parse_test(required)) for other, required in whens]
        if isinstance(leaf, Categorical):
            yield SearchedHyperparameter(name, choices=leaf.vals, ordered=leaf.ordered, when=when)
        elif not isinstance(leaf, Const):
            (least, most), step = ends_of(leaf), None if isinstance(leaf, Log) else leaf.step
            yield SearchedHyperparameter(
                name, least=least, most=most, whole=isinstance(leaf, Int), step=step, when=when
            )


def _best_trial(cached: CachedExperiment) -> Row | None:
    """Return the best trial with its hyperparameters and its best checkpoint, or None if none has reported a number."""
    row = cached.history.progress.recommended
    if row is None:
        return None
    saved = row.best_checkpoint
    download, place = None, None if saved is None else saved.path
    if saved is not None and not is_foreign(saved.path):
        download = download_path(cached.id, row.id, saved.path)
        place = f"{cached.cache.home.checkpoints(cached.id, cached.spec)}/{saved.path}"
    return {**table_row(cached, row.id), **copies(row), "download": download, "place": place}


def list_failures(cached: CachedExperiment) -> FailureList:
    """Return the failed and diverged trials, grouped by cause."""
    table, metric = cached.history.progress.trials, cached.spec.metric
    return FailureList(
        [
            FailedTrials(group.kind, str(group), group.trials[:_MOST_EXAMPLES], *group.conditions(table, metric))
            for group in group_failures(table, cached.history.progress.spec)
        ]
    )


def measured_training(cached: CachedExperiment) -> MeasuredTraining:
    """Return the largest number of workers so far, and the mean seconds for one unit of length."""
    progress = cached.history.progress
    measured = progress.measuring.result()
    return MeasuredTraining(progress.timeline.slots or None, None if measured is None else measured.unit_seconds)


def event_line(seq: Seq, entry: Entry, spec: ExperimentSpec, trial: int | None = None) -> EventLine:
    """Return a readable line for an entry of the event log; with ``trial``, decisions about other trials are left out.

    Decisions of one kind are described together, because the end of a bracket can stop thousands of trials.
    """
    decisions = entry.decisions
    if trial is not None:
        decisions = tuple(each for each in decisions if getattr(each, "trial", trial) == trial)
    decided = [group.text for group in group_decisions(decisions, spec.unit)]
    if (more := len(decided) - _MOST_DECISIONS) > 0:
        decided[_MOST_DECISIONS:] = [f"and {more:,} more"]
    about = getattr(entry.event, "trial", None)
    return EventLine(seq, entry.at, about, describe_event(entry.event, spec.unit), decided)
