"""What a person, a log file or a program sees of a running experiment.

Reporters write nothing themselves: they hand it to a thread. So nothing is written while a lock is held or in a
signal handler, and a terminal or pipe that isn't read can't halt the driver.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal

from ashwood.cli.capacity import CapacityNews
from ashwood.cli.job import announce, called
from ashwood.cli.output import flatten, format_duration, format_length, format_value, to_json
from ashwood.cli.text import brief, cut
from ashwood.cli.writer import Writer
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import Entry, ExperimentId
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
    Warn,
    WhyLeave,
)
from ashwood.experiment.events import AttemptFailed, CapacityChanged
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.views.progress import Forecast, Progress

_CAUSES_TO_FIX = (CommonFailure, NoSpace, NoStorage, TooManyInvalid)
"""Why an experiment paused that would pause again at once."""
_DETAIL_LINES = 25
_LONGEST_NAME = 60
_MOST_TRIALS = 10
_LONGEST_VALUE = 200
LONGEST_ERROR = 1_000
"""Columns of an error of training code that are shown."""
_WORTH_A_RANGE = 1.1

Style = Literal["text", "json", "quiet"]


def make_reporter(style: Style, experiment: ExperimentId, spec: ExperimentSpec) -> Reporter:
    """A reporter in a style; text is a live display on a terminal and plain lines elsewhere."""
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
    """Follows an experiment and says nothing; the others say more.  A context manager around the run.

    Attributes:
        progress: how the experiment is going.
        writer: writes what is said, from when the context is entered until it is left.
    """

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        self.id = experiment
        self.spec = spec
        self.progress = Progress(spec)
        self.writer = Writer()
        self.running = False
        self._seen_warnings: set[str] = set()
        self._seen_errors: set[str] = set()
        self._given_up_for: set[str] = set()
        self._capacity = CapacityNews()
        # The live display draws in a thread of its own.
        self._lock = threading.Lock()

    def folded(self, progress: Progress) -> None:
        """The experiment as its log tells it so far."""
        with self._lock:
            self.progress = progress

    def observe(self, entries: Sequence[Entry]) -> None:
        """Take the durable entries of a turn."""
        with self._lock:
            for entry in entries:
                self.progress.apply(*entry)
                if self.running:
                    self._tell(entry)
            if self.running and self.progress.state is ExperimentState.RUNNING:
                self._tell_capacity(entries)
            # Here, and not where it is drawn: this is the thread that drives the search.
            self.progress.look(entries[-1].at)

    def summary(self) -> Mapping[str, Any]:
        """What the list of experiments shows."""
        with self._lock:
            return self.progress.summary(time.time())

    def ready(self, slots: int) -> None:
        """The backend has so many slots; trials start now."""
        self.running = True
        self.writer.call(partial(announce, self.id))
        self._capacity.began(slots)
        self.started(slots)

    def interrupted(self, count: int) -> None:
        """Say what the ``count``-th Ctrl-C does.  Called by a signal handler."""

    def warn(self, message: str) -> None:
        """Tell a warning; the same one only once."""
        if message not in self._seen_warnings:
            self._seen_warnings.add(message)
            self.say_warning(message)

    @property
    def why_it_ended(self) -> str:
        """Why the driver let go of the experiment."""
        return self.progress.why_ended

    @property
    def has_to_be_mended(self) -> bool:
        """Whether the experiment paused because of something that it would meet again at once."""
        leaving = self.progress.leaving
        paused = self.progress.state is ExperimentState.PAUSED
        return paused and leaving is not None and isinstance(leaving.why, _CAUSES_TO_FIX)

    def _tell(self, entry: Entry) -> None:
        for decision in entry.decisions:
            match decision:
                case Warn(message):
                    self.warn(message)
                case CloseTrial(trial, _, GaveUp() as why):
                    self._tell_given_up(trial, why)
                # After a signal, `interrupted` has said so.
                case LeaveExperiment(state, reason) if not (isinstance(reason, Asked) and reason.by):
                    self.say_news(leaving(state, reason))
        if isinstance(entry.event, AttemptFailed) and not self._was_killed(entry.event.trial):
            self._tell_failure(entry.event)

    def _tell_capacity(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry.event, CapacityChanged):
                self._capacity.note(entry.at, entry.event)
        if (news := self._capacity.news(entries[-1].at)) is not None:
            self.say_news(news)

    def _was_killed(self, trial: TrialId) -> bool:
        """Whether its user ended it, so that its process's end is no news."""
        killed = self.progress.trials.rows[trial].state is TrialState.KILLED
        return killed or self.progress.state in (ExperimentState.STOPPING, ExperimentState.CANCELED)

    def _tell_failure(self, event: AttemptFailed) -> None:
        """The first failure of a kind; hundreds of trials may fail in the same way."""
        error = event.error.partition("\n")[0]
        if error not in self._seen_errors:
            self._seen_errors.add(error)
            see = f"ashwood logs {self.id} {event.trial}"
            self.say_warning(f"trial {event.trial} failed: {brief(error, LONGEST_ERROR)} (see: {see})")

    def _tell_given_up(self, trial: TrialId, why: GaveUp) -> None:
        """Why a trial is given up, with all that its last process said of it; once for each kind of error."""
        errors = self.progress.trials.rows[trial].errors
        error, _, details = (
            errors[-1] if errors else "it let go before it had trained as long as it was to"
        ).partition("\n")
        if error not in self._given_up_for:
            self._given_up_for.add(error)
            self._seen_errors.add(error)
            quoted = "".join(
                f"\n  | {cut(line, LONGEST_ERROR)}" for line in details.rstrip().splitlines()[-_DETAIL_LINES:]
            )
            self.say_warning(f"trial {trial} {why} and is given up: {brief(error, LONGEST_ERROR)}{quoted}")

    # -- what reporters say -----------------------------------------------------------------------

    def started(self, slots: int) -> None:
        """Say that it begins."""

    def say_warning(self, message: str) -> None:
        """Say a warning."""

    def say_news(self, message: str) -> None:
        """Say what changes the course of the experiment."""

    def ended(self) -> None:
        """Say how it ended, and what to do next."""

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
    """Lines for a log file: the start, each new best, now and then how far it is, the end."""

    seconds_between_lines = 10.0

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        super().__init__(experiment, spec)
        self._best: float | None = None
        self._next_line = 0.0

    def started(self, slots: int) -> None:
        self.writer.echo(opening(self.id, self.progress, slots))
        best = self.progress.best
        self._best = None if best is None else best.metric

    def _tell(self, entry: Entry) -> None:
        super()._tell(entry)
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
            self.writer.echo(f"{clock_time(entry.at)}  {status_line(self.progress, entry.at)}")

    def interrupted(self, count: int) -> None:
        self.writer.echo(interruption(count), err=True)

    def say_warning(self, message: str) -> None:
        self.writer.echo(f"warning: {message}", err=True)

    def say_news(self, message: str) -> None:
        self.writer.echo(message)

    def ended(self) -> None:
        self.writer.echo(closing(self.id, self.progress))


class JsonReporter(Reporter):
    """One line of strict JSON an event, for programs; warnings on standard error."""

    def started(self, slots: int) -> None:
        self.writer.echo(json.dumps({"experiment": self.id, "name": self.spec.name, "slots": slots}))

    def _tell(self, entry: Entry) -> None:
        super()._tell(entry)
        self.writer.echo(json.dumps({"at": entry.at, **to_json(json.loads(encode_entry(entry)))}))

    def say_warning(self, message: str) -> None:
        self.writer.echo(f"warning: {message}", err=True)


def opening(experiment: ExperimentId, progress: Progress, slots: int) -> str:
    """What is about to run."""
    spec = progress.spec
    trials, length = progress.trials_planned, spec.search.max_length
    workers = format_length(slots, "workers") if slots else "workers as they come"
    name = brief(spec.name, _LONGEST_NAME)
    return (
        f"experiment {experiment} ({name}): {spec.search.method}, {format_length(trials, 'trials')} up to "
        f"{format_length(length, spec.unit)}, {workers}, seed {spec.seed}"
    )


def status_line(progress: Progress, now: float) -> str:
    """How far it is, in one line."""
    states = progress.trials.states
    forecast = progress.forecast(now)
    return (
        f"{forecast.fraction:.0%} done, {to_go(forecast)}; "
        f"{format_length(states.total(), 'trials')}, {format_length(progress.reports, 'reports')}, "
        f"{format_length(progress.length_trained, progress.spec.unit)} trained, "
        f"workers {progress.utilisation(now):.0%} busy"
    )


def to_go(forecast: Forecast) -> str:
    """How much longer it takes, with the range in which it will lie in four of five cases."""
    words = f"{format_duration(forecast.seconds)} to go"
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
    """That no trial gets a job any more, and why."""
    if state is ExperimentState.PAUSED:
        return f"pausing {str(why).removeprefix('paused ')}" if isinstance(why, Asked) else f"pausing: {why}"
    return f"coming to an end: {why}"


def closing(experiment: ExperimentId, progress: Progress) -> str:
    """How it ended, the best trial, and the command that comes next."""
    return "\n".join([*how_it_ended(experiment, progress), *_best(progress), *what_next(experiment, progress)])


def how_it_ended(experiment: ExperimentId, progress: Progress) -> Iterator[str]:
    """Why it ended or paused, and what went wrong on the way."""
    why = brief(progress.why_ended, LONGEST_ERROR).removeprefix(f"{progress.state} ")
    colon = "" if progress.why_ended.startswith(f"{progress.state} ") else ":"
    yield f"experiment {experiment} {progress.state}{colon} {why}"
    if failed := progress.trials.states[TrialState.ERRORED]:
        see = f"{called()} trials {experiment} --filter state=errored"
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
    """The commands that may come next."""
    if progress.state in (ExperimentState.PAUSED, ExperimentState.STOPPED):
        yield from going_on(experiment, None if progress.leaving is None else progress.leaving.why)
    has_failed = progress.state is ExperimentState.ERRORED or progress.trials.states[TrialState.ERRORED]
    if has_failed and progress.state in (ExperimentState.ERRORED, ExperimentState.COMPLETED):
        yield f"to retry failed trials, fix the cause, then: {called()} resume {experiment} --retry-failed"
    if progress.trials.leader is not None and progress.state is not ExperimentState.PAUSED:
        more = (f"{called()} {command} {experiment}" for command in ("best", "describe", "trials"))
        yield f"more: {' · '.join(more)}"


def going_on(experiment: ExperimentId, why: WhyLeave | None) -> Iterator[str]:
    """How to go on with an experiment that paused or stopped, by why it did."""
    resume = f"{called()} resume {experiment}"
    match why:
        case CommonFailure():
            yield f"Correct the error, then continue with: {resume} (trials that failed for good: --retry-failed)"
            yield "(to let a search continue through such failures, run it with --set max_common_failures=0)"
        case TooManyInvalid(trials=trials):
            yield f"To continue, raise the limit: {called()} set {experiment} max_invalid_trials={2 * trials}"
            yield f"then resume: {resume}"
        case NoSpace():
            yield f"make room, then go on with: {resume}"
        case NoStorage():
            yield f"when the checkpoint storage can be used again, continue with: {resume}"
        case GoalReached():
            yield f"go on, to get further, with: {resume} --stop-when metric_at=METRIC, or none"
        case TimeIsUp():
            yield f"go on, for longer, with: {resume} --stop-when max_time=TIME, or none"
        case _:
            yield f"go on with: {resume}"


def interruption(count: int) -> str:
    """What a Ctrl-C does."""
    if count == 1:
        return "pausing: running trials save a checkpoint (press Ctrl-C again to end at once)"
    return "ending at once: running trials lose their work since their latest checkpoint"


def clock_time(at: float) -> str:
    """The time of day, where the reader is."""
    return time.strftime("%H:%M:%S", time.localtime(at))
