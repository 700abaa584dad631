"""Messages about an experiment: what it is, how far it is, how it ended, and which commands come next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.decisions import (
    Asked,
    CommonFailure,
    GoalReached,
    NoSpace,
    NoStorage,
    TimeIsUp,
    TooManyInvalid,
    WhyLeave,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.forecast.time_left import Forecast, Forecaster
from ashwood.search.vocabulary import TrialId
from ashwood.terminal.text import brief, say
from ashwood.views.failures import group_failures
from ashwood.views.progress import Progress
from ashwood.views.table import flatten
from ashwood.views.trust import TrustReading
from ashwood.views.wording import (
    all_of,
    describe_method,
    format_duration,
    format_length,
    format_setting,
    format_value,
    up_to,
)

if TYPE_CHECKING:
    from ashwood.eventlog.home import Home

COMMAND: Final = "ASHWOOD_CALLED"
"""Environment variable with the command by which the user reaches this cluster, such as ``ashwood --on URL``."""

LONGEST_ERROR = 1_000
"""Largest width of an error message of training code, in columns."""
LONGEST_NAME = 60
"""Largest width of a name of an experiment or a metric, in columns."""
_LONGEST_VALUE = 200
_MOST_TRIALS = 10
_MOST_CAUSES = 5
_WORTH_A_RANGE = 1.1


def command_prefix() -> str:
    """Return how the user starts the next command: ``ashwood``, or ``ashwood --on URL`` in a job of a cluster."""
    return os.environ.get(COMMAND, "ashwood")


def warn_of_damage(home: Home, experiment: ExperimentId) -> None:
    """Print a warning if an experiment is damaged, so that a command shows only a part of it."""
    if (damage := home.damage(home.store.record(experiment))) is not None:
        say(f"warning: experiment {experiment} is damaged: {damage}", err=True)


_CAUSES_TO_FIX = (CommonFailure, NoSpace, NoStorage, TooManyInvalid)
"""Reasons for which a paused experiment would pause again immediately after it is resumed."""


def needs_fix(progress: Progress) -> bool:
    """Return whether an experiment is paused for a reason that must be fixed before it is resumed."""
    leaving, paused = progress.leaving, progress.state is ExperimentState.PAUSED
    return paused and leaving is not None and isinstance(leaving.why, _CAUSES_TO_FIX)


def is_over(state: ExperimentState) -> bool:
    """Return whether an experiment has ended, or has stopped at its goal or time limit."""
    return state.ended or state is ExperimentState.STOPPED


def opening(experiment: ExperimentId, progress: Progress, slots: int) -> str:
    """Return the first line: what is going to run."""
    spec = progress.spec
    workers = format_length(slots, "workers") if slots else "workers as they join"
    name = brief(spec.name, LONGEST_NAME)
    method = describe_method(spec.search)
    return f"experiment {experiment} ({name}): {method}, {plan(progress)}, {workers}, seed {spec.seed}"


def plan(progress: Progress) -> str:
    """Return how many trials the search creates and how long they train, such as ``20 trials up to 64 epochs``."""
    spec, wanted = progress.spec, progress.ladder.replicates_wanted
    trials = f"{format_length(progress.trials_planned, 'trials')} {up_to(spec.search.max_length, spec.unit)}"
    return f"{trials}, {format_length(wanted, 'replicates')}" if wanted else trials


def status_line(forecaster: Forecaster, now: float | None) -> str:
    """Return the progress as one line; ``now`` is None if no driver is running."""
    progress, forecast = forecaster.progress, forecaster.forecast(now)
    trained = format_length(progress.length_trained, progress.spec.unit)
    repeated = f" ({progress.length_repeated} repeated)" if progress.length_repeated else ""
    return (
        f"{forecast.fraction:.0%} done{'' if now is None else f', {time_left(forecast)}'}; "
        f"{progress.describe_created()}, {format_length(progress.reports, 'reports')}, "
        f"{trained} trained{repeated}, workers {progress.utilisation(now):.0%} busy"
    )


def time_left(forecast: Forecast) -> str:
    """Return the forecast time left, with the range that contains it with 80 % probability."""
    if forecast.seconds is None:
        return "estimating…"
    words = f"{format_duration(forecast.seconds)} left"
    left = forecast.time_left
    if left is None or left.high < 10 or left.high < _WORTH_A_RANGE * left.low:
        return words
    return f"{words} ({format_duration(left.low)}–{format_duration(left.high)})"


def named_trials(trials: Sequence[TrialId]) -> str:
    """Return the numbers of trials as a phrase: ``trial 3``, ``trials 3 and 5``."""
    named = [str(trial) for trial in trials[:_MOST_TRIALS]]
    if len(trials) > _MOST_TRIALS:
        return f"{len(trials):,} trials: {', '.join(named)}, …"
    return f"trial{'s' if len(named) > 1 else ''} {all_of(named)}"


def waiting_for(trials: Sequence[TrialId]) -> str:
    """Return what a driver waits for while the experiment pauses or stops."""
    return f"waiting for {named_trials(trials)} to finish a step and save"


def leaving(state: ExperimentState, why: WhyLeave) -> str:
    """Return the line about why the experiment pauses or ends, from which time on no trial gets a job."""
    if state is ExperimentState.PAUSED:
        return f"pausing {str(why).removeprefix('paused ')}" if isinstance(why, Asked) else f"pausing: {why}"
    return f"ending: {why}"


def closing(experiment: ExperimentId, progress: Progress) -> str:
    """Return the last lines: how the run ended, failures, the best trial, whether it can be believed, and commands."""
    reading = progress.trust.reading() if is_over(progress.state) else None
    trust = [] if reading is None or not progress.reports else [reading.sentence]
    parts = (how_it_ended(experiment, progress), failure_lines(progress), _best(progress), trust)
    return "\n".join([line for part in (*parts, what_next(experiment, progress)) for line in part])


def failure_lines(progress: Progress) -> Iterator[str]:
    """Yield lines about failed and diverged trials, one for each cause."""
    groups = group_failures(progress.trials, progress.spec)
    for group in groups[:_MOST_CAUSES]:
        yield brief(f"{group.kind}: {group}", LONGEST_ERROR)
    if (more := len(groups) - _MOST_CAUSES) > 0:
        yield f"and {format_length(more, 'more causes')} of failures"


def how_it_ended(experiment: ExperimentId, progress: Progress) -> Iterator[str]:
    """Yield why the experiment ended or paused, and how many trials failed."""
    state, why = str(progress.state), brief(progress.why_ended, LONGEST_ERROR)
    if progress.state is ExperimentState.COMPLETED:
        yield f"experiment {experiment} completed"
    else:  # Some reasons already begin with the state, such as "paused on request".
        yield f"experiment {experiment} {why if why.startswith(f'{state} ') else f'{state}: {why}'}"
    if failed := progress.trials.states[TrialState.ERRORED]:
        see = f"{command_prefix()} trials {experiment} --filter state=errored"
        yield f"{failed} of {progress.trials.states.total()} trials failed; see: {see}"


def best_so_far(progress: Progress) -> str:
    """Return the best result: its trial, metric and length.  There must be one."""
    best, spec = progress.best, progress.spec
    if best is None:
        raise AssertionError("no trial has a result")
    metric = f"{brief(spec.metric, LONGEST_NAME)} {format_value(best.metric)}"
    return f"trial {best.trial}, {metric} at {format_length(best.length, spec.unit)}"


def _best(progress: Progress) -> Iterator[str]:
    row = progress.recommended
    if progress.best is not None and row is not None:
        if (results := progress.describe_recommendation()) is not None:
            yield f"recommended: trial {row.id}, {brief(progress.spec.metric, LONGEST_NAME)} {results}"
        else:
            yield f"best: {best_so_far(progress)}"
            if (seen := progress.describe_seen()) is not None:
                yield seen
        for name, value in flatten(row.hparams).items():
            yield f"  {brief(name, LONGEST_NAME)}: {brief(format_setting(value), _LONGEST_VALUE)}"
    elif progress.reports:
        yield no_best(progress)


def trust_lines(reading: TrustReading, experiment: ExperimentId) -> Iterator[str]:
    """Yield whether early stopping can be believed, the numbers behind it, and commands that apply the advice."""
    yield reading.sentence
    yield from (f"  {brief(reason, LONGEST_ERROR)}" for reason in reading.reasons)
    for advice in reading.advice:
        yield f"  Advice: {advice.text}{advice.price}"
        if advice.settings:
            options = " ".join(f"--set {setting}" for setting in advice.settings)
            yield f"    {command_prefix()} run --from {experiment} {options}"


def no_best(progress: Progress) -> str:
    """Return why there is no best result."""
    metric = brief(progress.spec.metric, LONGEST_NAME)
    if (seen := progress.describe_seen()) is not None:
        return f"best: no checkpoint with a {metric}; {seen}"
    return f"best: no trial has reported a {metric} that is a finite number{'' if progress.state.ended else ' yet'}"


def what_next(experiment: ExperimentId, progress: Progress) -> Iterator[str]:
    """Yield the commands that can come next."""
    if progress.state in (ExperimentState.PAUSED, ExperimentState.STOPPED):
        yield from how_to_resume(experiment, None if progress.leaving is None else progress.leaving.why)
    has_failed = progress.state is ExperimentState.ERRORED or progress.trials.states[TrialState.ERRORED]
    if has_failed and progress.state in (ExperimentState.ERRORED, ExperimentState.COMPLETED):
        yield f"to retry failed trials, fix the cause, then: {command_prefix()} resume {experiment} --retry-failed"
    if progress.trials.leader is not None and progress.state is not ExperimentState.PAUSED:
        more = (f"{command_prefix()} {command} {experiment}" for command in ("best", "describe", "trials"))
        yield f"more: {' · '.join(more)}"


def how_to_resume(experiment: ExperimentId, why: WhyLeave | None) -> Iterator[str]:
    """Yield how to resume an experiment that paused or stopped for a reason."""
    resume = f"{command_prefix()} resume {experiment}"
    match why:
        case CommonFailure():
            yield f"Fix the error, then continue with: {resume} (--retry-failed also retries failed trials)"
            yield "(to let a search continue through such failures, run it with --set max_common_failures=0)"
        case TooManyInvalid(trials=trials):
            yield f"To continue, raise the limit: {command_prefix()} set {experiment} max_invalid_trials={2 * trials}"
            yield f"then resume: {resume}"
        case NoSpace():
            yield f"Free disk space, then continue with: {resume}"
        case NoStorage():
            yield f"When the checkpoint storage can be used again, continue with: {resume}"
        case GoalReached():
            yield f"To continue, set a better goal or none: {resume} --stop-when metric_at=METRIC (or none)"
        case TimeIsUp():
            yield f"To continue, set a longer time or none: {resume} --stop-when max_time=TIME (or none)"
        case _:
            yield f"To continue: {resume}"


def interruption(count: int) -> str:
    """Return the line about the effect of the first or a later Ctrl-C."""
    if count == 1:
        return "pausing: running trials save a checkpoint (press Ctrl-C again to end at once)"
    return "ending at once: running trials lose their work since their latest checkpoint"


def clock_time(at: float) -> str:
    """Return the local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))
