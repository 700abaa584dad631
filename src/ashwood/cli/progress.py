"""Reporters: the output of a running experiment for a terminal, a log file or a program.

Reporters do not write themselves: a thread does. So nothing is written while a lock is held or in a signal handler,
and a terminal or pipe that isn't read can't block the driver.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal

from ashwood.cli.capacity import CapacityMessages
from ashwood.cli.job import announce, command_prefix
from ashwood.cli.output import flatten, format_duration, format_length, format_value, to_json
from ashwood.cli.text import brief, cut
from ashwood.cli.writer import Writer
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.decisions import (
    Asked,
    CloseTrial,
    CommonFailure,
    GaveUp,
    GoalReached,
    LeaveExperiment,
    NoSpace,
    NoStorage,
    TimeIsUp,
    TooManyInvalid,
    TrialTimeIsUp,
    Warn,
    WhyLeave,
)
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptFailed, CapacityChanged
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.time_left import Forecast, Forecaster
from ashwood.search.vocabulary import TrialId
from ashwood.views.progress import Progress

_CAUSES_TO_FIX = (CommonFailure, NoSpace, NoStorage, TooManyInvalid)
"""Reasons for which a paused experiment would pause again immediately after it is resumed."""
_DETAIL_LINES = 25
_LONGEST_NAME = 60
_MOST_TRIALS = 10
_LONGEST_VALUE = 200
LONGEST_ERROR = 1_000
"""Largest width of an error message of training code, in columns."""
_WORTH_A_RANGE = 1.1

Style = Literal["text", "json", "quiet"]


def make_reporter(style: Style, experiment: ExperimentId, spec: ExperimentSpec) -> Reporter:
    """Return a reporter; the style ``text`` is a live display on a terminal and plain lines otherwise."""
    if style == "json":
        return JsonReporter(experiment, spec)
    if style == "quiet":
        return Reporter(experiment, spec)
    from ashwood.cli.output import make_console

    console = make_console()
    if console.is_terminal:
        from ashwood.cli.live import LiveReporter

        return LiveReporter(experiment, spec, console)
    return PlainReporter(experiment, spec)


class Reporter:
    """A reporter without output, the base class of all reporters.  It is a context manager around the run.

    Attributes:
        progress: progress of the experiment.
        forecaster: forecasts of the time left.
        writer: thread that writes the output while the context is active.
    """

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        self.id = experiment
        self.spec = spec
        self.progress = Progress(spec)
        self.forecaster = Forecaster(self.progress)
        self.writer = Writer()
        self.running = False
        self._seen_warnings: set[str] = set()
        self._seen_errors: set[str] = set()
        self._final_errors: set[str] = set()
        self._showed_trial_time = False
        self._capacity = CapacityMessages()
        # The live display draws in a thread of its own.
        self._lock = threading.Lock()

    def folded(self, progress: Progress) -> None:
        """Take the progress that was folded from the event log so far."""
        with self._lock:
            self.progress = progress
            self.forecaster = Forecaster(progress)

    def observe(self, entries: Sequence[Entry]) -> None:
        """Take entries that were committed to the event log."""
        with self._lock:
            for entry in entries:
                self.progress.apply(entry)
                if self.running:
                    self._show(entry)
            if self.running and self.progress.state is ExperimentState.RUNNING:
                self._show_capacity(entries)
            # Not when the display is drawn, because a display thread must not read the search while it changes.
            self.forecaster.look(entries[-1].at)

    def summary(self) -> Mapping[str, Any]:
        """Return the summary that the list of experiments shows."""
        with self._lock:
            return self.forecaster.summary(time.time())

    def ready(self, slots: int) -> None:
        """Note that the backend has ``slots`` slots and trials start now."""
        self.running = True
        self.writer.call(partial(announce, self.id))
        self._capacity.began(slots)
        self.started(slots)

    def interrupted(self, count: int) -> None:
        """Show what the ``count``-th Ctrl-C does.  A signal handler calls this."""

    def warn(self, message: str) -> None:
        """Show a warning, unless the same one was shown before."""
        if message not in self._seen_warnings:
            self._seen_warnings.add(message)
            self.say_warning(message)

    @property
    def why_it_ended(self) -> str:
        """The reason why the experiment ended or paused."""
        return self.progress.why_ended

    @property
    def needs_fix(self) -> bool:
        """Whether the experiment paused for a reason that must be fixed before it is resumed."""
        leaving = self.progress.leaving
        paused = self.progress.state is ExperimentState.PAUSED
        return paused and leaving is not None and isinstance(leaving.why, _CAUSES_TO_FIX)

    def _show(self, entry: Entry) -> None:
        for decision in entry.decisions:
            match decision:
                case Warn(message):
                    self.warn(message)
                case CloseTrial(trial, _, GaveUp() as why):
                    self._show_final_failure(trial, why)
                case CloseTrial(trial, _, TrialTimeIsUp() as why) if not self._showed_trial_time:
                    self._showed_trial_time = True
                    self.say_news(f"trial {trial} stopped: {why} (shown only for the first such trial)")
                # After a signal, `interrupted` has already shown a message.
                case LeaveExperiment(state, reason) if not (isinstance(reason, Asked) and reason.by):
                    self.say_news(leaving(state, reason))
        if isinstance(entry.event, AttemptFailed) and not self._was_killed(entry.event.trial):
            self._show_failure(entry.event)

    def _show_capacity(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry.event, CapacityChanged):
                self._capacity.note(entry.at, entry.event)
        if (news := self._capacity.news(entries[-1].at)) is not None:
            self.say_news(news)

    def _was_killed(self, trial: TrialId) -> bool:
        """Return whether the user killed the trial or the experiment: then its process is expected to fail."""
        killed = self.progress.trials.rows[trial].state is TrialState.KILLED
        return killed or self.progress.state in (ExperimentState.STOPPING, ExperimentState.CANCELED)

    def _show_failure(self, event: AttemptFailed) -> None:
        """Show the failure of an attempt, unless another trial failed with the same error: hundreds may."""
        error = event.error.partition("\n")[0]
        if error not in self._seen_errors:
            self._seen_errors.add(error)
            see = f"ashwood logs {self.id} {event.trial}"
            self.say_warning(f"trial {event.trial} failed: {brief(error, LONGEST_ERROR)} (see: {see})")

    def _show_final_failure(self, trial: TrialId, why: GaveUp) -> None:
        """Show why a trial is not retried, with the last lines of its error, once for each error."""
        errors = self.progress.trials.rows[trial].errors
        error, _, details = (
            errors[-1] if errors else "it exited before it had trained to the length of its job"
        ).partition("\n")
        if error not in self._final_errors:
            self._final_errors.add(error)
            self._seen_errors.add(error)
            quoted = "".join(
                f"\n  | {cut(line, LONGEST_ERROR)}" for line in details.rstrip().splitlines()[-_DETAIL_LINES:]
            )
            self.say_warning(f"trial {trial} {why} and will not be retried: {brief(error, LONGEST_ERROR)}{quoted}")

    # -- output of the subclasses -----------------------------------------------------------------

    def started(self, slots: int) -> None:
        """Show that the run begins."""

    def say_warning(self, message: str) -> None:
        """Show a warning."""

    def say_news(self, message: str) -> None:
        """Show a change of the experiment's course, such as a pause or lost workers."""

    def ended(self) -> None:
        """Show how the run ended and which commands come next."""

    def __enter__(self) -> Reporter:
        self.writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.ended()
        self.writer.close()


class PlainReporter(Reporter):
    """A reporter of lines for a log file: the start, each new best trial, the progress every 10 s, and the end."""

    seconds_between_lines = 10.0

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        super().__init__(experiment, spec)
        self._best: float | None = None
        self._next_line = 0.0

    def started(self, slots: int) -> None:
        self.writer.echo(opening(self.id, self.progress, slots))
        best = self.progress.best
        self._best = None if best is None else best.metric

    def _show(self, entry: Entry) -> None:
        super()._show(entry)
        best = self.progress.best
        if best is not None and best.metric != self._best:
            self._best = best.metric
            self.writer.echo(
                f"{clock_time(entry.at)}  best so far: trial {best.trial}, {brief(self.spec.metric, _LONGEST_NAME)} "
                f"{format_value(best.metric)} at {format_length(best.length, self.spec.unit)}"
                f"{'' if (seen := self.progress.describe_seen()) is None else f'; {seen}'}"
            )
        if entry.at >= self._next_line and not self.writer.is_far_behind:
            self._next_line = entry.at + self.seconds_between_lines
            self.writer.echo(f"{clock_time(entry.at)}  {status_line(self.forecaster, entry.at)}")

    def interrupted(self, count: int) -> None:
        self.writer.echo(interruption(count), err=True)

    def say_warning(self, message: str) -> None:
        self.writer.echo(f"warning: {message}", err=True)

    def say_news(self, message: str) -> None:
        self.writer.echo(message)

    def ended(self) -> None:
        self.writer.echo(closing(self.id, self.progress))


class JsonReporter(Reporter):
    """A reporter of one line of strict JSON per event, with warnings on standard error."""

    def started(self, slots: int) -> None:
        self.writer.echo(json.dumps({"experiment": self.id, "name": self.spec.name, "slots": slots}))

    def _show(self, entry: Entry) -> None:
        super()._show(entry)
        self.writer.echo(json.dumps({"at": entry.at, **to_json(json.loads(encode_entry(entry)))}))

    def say_warning(self, message: str) -> None:
        self.writer.echo(f"warning: {message}", err=True)


def opening(experiment: ExperimentId, progress: Progress, slots: int) -> str:
    """Return the first line: what is going to run."""
    spec = progress.spec
    trials, length = progress.trials_planned, spec.search.max_length
    workers = format_length(slots, "workers") if slots else "workers as they join"
    name = brief(spec.name, _LONGEST_NAME)
    return (
        f"experiment {experiment} ({name}): {spec.search.method}, {format_length(trials, 'trials')} up to "
        f"{format_length(length, spec.unit)}, {workers}, seed {spec.seed}"
    )


def status_line(forecaster: Forecaster, now: float) -> str:
    """Return the progress as one line."""
    progress, forecast = forecaster.progress, forecaster.forecast(now)
    states = progress.trials.states
    return (
        f"{forecast.fraction:.0%} done, {time_left(forecast)}; "
        f"{format_length(states.total(), 'trials')}, {format_length(progress.reports, 'reports')}, "
        f"{format_length(progress.length_trained, progress.spec.unit)} trained, "
        f"workers {progress.utilisation(now):.0%} busy"
    )


def time_left(forecast: Forecast) -> str:
    """Return the forecast time left, with the range in which it lies in four of five cases."""
    if forecast.seconds is None:
        return "estimating…"
    words = f"{format_duration(forecast.seconds)} left"
    left = forecast.time_left
    if left is None or left.high < 10 or left.high < _WORTH_A_RANGE * left.low:
        return words
    return f"{words} ({format_duration(left.low)}–{format_duration(left.high)})"


def named_trials(trials: Sequence[TrialId]) -> str:
    """Return the numbers of trials as a phrase: ``trial 3``, ``trials 3 and 5``."""
    *others, last = [str(trial) for trial in trials[:_MOST_TRIALS]]
    if len(trials) > _MOST_TRIALS:
        return f"{len(trials):,} trials: {', '.join([*others, last])}, …"
    return f"trials {', '.join(others)} and {last}" if others else f"trial {last}"


def leaving(state: ExperimentState, why: WhyLeave) -> str:
    """Return the line about why the experiment pauses or ends, from which time on no trial gets a job."""
    if state is ExperimentState.PAUSED:
        return f"pausing {str(why).removeprefix('paused ')}" if isinstance(why, Asked) else f"pausing: {why}"
    return f"ending: {why}"


def closing(experiment: ExperimentId, progress: Progress) -> str:
    """Return the last lines: how the run ended, the best trial, and the next commands."""
    return "\n".join([*how_it_ended(experiment, progress), *_best(progress), *what_next(experiment, progress)])


def how_it_ended(experiment: ExperimentId, progress: Progress) -> Iterator[str]:
    """Yield why the experiment ended or paused, and how many trials failed."""
    if progress.state is ExperimentState.COMPLETED:
        yield f"experiment {experiment} completed"
        yield from _failures(experiment, progress)
        return
    why = brief(progress.why_ended, LONGEST_ERROR).removeprefix(f"{progress.state} ")
    colon = "" if progress.why_ended.startswith(f"{progress.state} ") else ":"
    yield f"experiment {experiment} {progress.state}{colon} {why}"
    yield from _failures(experiment, progress)


def _failures(experiment: ExperimentId, progress: Progress) -> Iterator[str]:
    if failed := progress.trials.states[TrialState.ERRORED]:
        see = f"{command_prefix()} trials {experiment} --filter state=errored"
        yield f"{failed} of {progress.trials.states.total()} trials failed; see: {see}"


def _best(progress: Progress) -> Iterator[str]:
    spec, best = progress.spec, progress.best
    if best is not None:
        yield (
            f"best: trial {best.trial}, {brief(spec.metric, _LONGEST_NAME)} {format_value(best.metric)} "
            f"at {format_length(best.length, spec.unit)}"
        )
        if (seen := progress.describe_seen()) is not None:
            yield seen
        for name, value in flatten(progress.trials.rows[best.trial].hparams).items():
            yield f"  {brief(name, _LONGEST_NAME)}: {brief(format_value(value), _LONGEST_VALUE)}"
    elif progress.reports:
        yield no_best(progress)


def no_best(progress: Progress) -> str:
    """Return why there is no best result."""
    metric = brief(progress.spec.metric, _LONGEST_NAME)
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
