"""One-line descriptions of events and decisions, for all pages and commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ashwood.experiment import decisions as d
from ashwood.experiment import events as e
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.search.settings import Sampler
from ashwood.search.vocabulary import TrialId
from ashwood.views.table import flatten
from ashwood.views.wording import format_capacity, format_duration, format_length, format_setting, format_value, up_to

_MOST_METRICS = 20
_LONGEST_HEADLINE = 1_000


def trials_of(event: e.Event, decisions: Sequence[d.Decision]) -> set[TrialId]:
    """Return the trials that the event or a decision of an entry is about."""
    named = (getattr(each, "trial", None) for each in (event, *decisions))
    return {trial for trial in named if trial is not None}


def describe_event(event: e.Event, unit: Unit) -> str:
    """Return a short description of an event."""
    match event:
        case e.DriverStarted(slots):
            return f"driver started, {format_length(slots, 'workers')}"
        case e.CapacityChanged(slots, nodes, why):
            return f"capacity changed, {format_capacity(slots, len(nodes), why)}"
        case e.AttemptStarted(trial, attempt, slot, length, node):
            where = f"slot {slot} on {node}" if node else f"slot {slot}"
            return f"trial {trial} started at {format_length(length, unit)}, attempt {attempt}, {where}"
        case e.ValidationReported(trial, _, length, metrics):
            shown = [f"{name} {format_value(value)}" for name, value in islice(metrics.items(), _MOST_METRICS)]
            more = [f"{len(metrics) - len(shown):,} more metrics"] if len(metrics) > len(shown) else []
            values = ", ".join([*shown, *more])
            return f"trial {trial} reported at {format_length(length, unit)}: {values}"
        case e.CheckpointSaved(trial, _, length, size=size):
            taken = "" if size is None else f", {format_size(size)}"
            return f"trial {trial} saved at {format_length(length, unit)}{taken}"
        case e.AttemptEnded(trial, attempt):
            return f"trial {trial} released its worker, attempt {attempt}"
        case e.AttemptFailed(trial, attempt, e.ABORTED):
            return f"trial {trial} was {e.ABORTED}, attempt {attempt}"
        case e.AttemptFailed(trial, attempt, error):
            return f"trial {trial} failed, attempt {attempt}: {_headline(error)}"
        case e.AttemptPreempted(trial, attempt, why, hung):
            what = f"the worker of trial {trial} was killed" if hung else f"trial {trial} lost its worker"
            return f"{what}, attempt {attempt}: {_headline(why)}"
        case e.StorageFailed(trial, attempt, error, cause):
            found = "could not use the checkpoint storage" if cause == e.UNREACHABLE else "found a full disk"
            return f"trial {trial} {found}, attempt {attempt}: {_headline(error)}"
        case e.CheckpointDamaged(trial, attempt, path, why):
            finder = f"trial {trial}, attempt {attempt}," if attempt else "ashwood verify"
            return f"{finder} found {path} damaged: {_headline(why)}"
        case _:
            return _describe_request(event)


def _describe_request(event: e.Event) -> str:
    match event:
        case e.HparamsInvalid(trial, _, why):
            return f"trial {trial} declared its hyperparameters invalid: {_headline(why)}"
        case e.TrialWarned(trial, attempt, message):
            return f"trial {trial} warned, attempt {attempt}: {_headline(message)}"
        case e.TrialTrained(trial, attempt, seconds):
            return f"trial {trial} has trained for {format_duration(seconds)} more, attempt {attempt}"
        case e.TrialStopped(trial):
            return f"trial {trial} was ended by its training code"
        case e.PauseRequested(why, by):
            return f"pause requested: {why}" if why else f"pause requested{f' by {by}' if by else ''}"
        case e.TrialKillRequested(trial):
            return f"kill of trial {trial} requested"
        case e.TrialStopRequested(trial):
            return f"stop of trial {trial} requested"
        case e.SettingsChanged(settings):
            return "settings changed: " + ", ".join(f"{name}={format_value(v)}" for name, v in settings.items())
        case e.AddTrialRequested(hparams, extra):
            return f"trial requested{' in addition to max_trials' if extra else ''}, with {describe_given(hparams)}"
        case e.ExtendRequested():
            given = [f"{name}={value}" for name, value in event._asdict().items() if value is not None]
            return f"extension of the search requested: {', '.join(given)}"
        case e.TimeRanOut(seconds):
            return f"time limit reached after {seconds:.0f} s"
    return _WITHOUT_DETAILS.get(type(event), type(event).__name__)


_WITHOUT_DETAILS: Mapping[type, str] = {
    e.CancelRequested: "cancel requested",
    e.KillRequested: "kill requested",
    e.RetryFailedRequested: "retry of failed trials requested",
    e.DriverStopped: "driver stopped",
}


def describe_repeats(repeats: int, unit: Unit) -> str:
    """Return the end of a sentence about training that is repeated to keep max_size, or empty if there is none."""
    return f"; it repeats {format_length(repeats, unit)} because of max_size" if repeats else ""


def is_routine(decision: d.Decision) -> bool:
    """Return whether a decision only deletes a checkpoint that the policy does not keep, which lists leave out."""
    return isinstance(decision, d.DeleteCheckpoint) and decision.why is None


def describe_decision(decision: d.Decision, unit: Unit) -> str:
    """Return a short description of a decision with its reason."""
    match decision:
        case d.CreateTrial(trial=trial, target=target):
            return f"create trial {trial} to {format_length(target, unit)} ({describe_reason(decision, unit)})"
        case d.TrainTrial(trial, attempt, target):
            reason = describe_reason(decision, unit)
            return f"train trial {trial} to {format_length(target, unit)}, attempt {attempt} ({reason})"
        case d.ContinueTrial(trial, _, target, why):
            return f"continue trial {trial} to {format_length(target, unit)} ({why})"
        case d.PauseTrial(trial, _, why):
            return f"pause trial {trial} ({why})"
        case d.SuspendTrial(trial):
            return f"suspend trial {trial}"
        case d.CompleteTrial(trial, _, why):
            return f"trial {trial} is completed ({why})"
        case d.StopTrial(trial, _, why):
            return f"stop trial {trial} ({why})"
        case d.AbortTrial(trial):
            return f"kill the process of trial {trial}"
        case d.CloseTrial(trial, state, why):
            return f"trial {trial} is {state} ({why})"
        case d.ReopenTrial(trial=trial, why=why):
            return f"reopen trial {trial} ({why})"
        case _:
            return _describe_the_rest(decision, unit)


def describe_reason(decision: d.Decision, unit: Unit) -> str:
    """Return the reason of a decision with its details, or an empty text if it has none."""
    match decision:
        case d.CreateTrial(why=why, given=given) if given:
            return f"{why}, with given settings {describe_given(given)}"
        case d.TrainTrial(why=why, repeats=repeats):
            return f"{why}{describe_repeats(repeats, unit)}"
    return str(getattr(decision, "why", ""))


def _describe_the_rest(decision: d.Decision, unit: Unit) -> str:
    match decision:
        case d.DeleteCheckpoint(_, path, why):
            return f"delete checkpoint {path}{'' if why is None else f' ({why})'}"
        case d.ChangeSettings(concurrent, trials, metric_at, seconds, invalid, size, replicates):
            bounds = f", and {format_length(replicates, 'replicates')}" if replicates else ""
            bounds += "" if metric_at is None else f", stop at {format_value(metric_at)}"
            bounds += "" if seconds is None else f", at most {format_value(seconds)} s"
            bounds += "" if invalid is None else f", at most {invalid} invalid trials"
            bounds += "" if size is None else f", checkpoints of at most {format_size(size)}"
            return f"{concurrent} trials at once, {' + '.join(map(str, trials))} in all{bounds}"
        case d.ExtendSearch(max_length, _, trials, replicates):
            further = f" with {format_length(replicates, 'replicates')}" if replicates else ""
            return f"extend the search to {' + '.join(map(str, trials))} trials {up_to(max_length, unit)}{further}"
        case d.LeaveExperiment(state, why):
            return f"no more jobs, the experiment will be {state} ({why})"
        case d.Warn(message):
            return f"warning: {message}"
        case d.EndExperiment(state, why):
            return f"the experiment is {state} ({why})"
    return type(decision).__name__


def describe_guides(spec: ExperimentSpec) -> Iterator[str]:
    """Yield a line for each kind of knowledge that a search starts with: past searches, priors and starting points."""
    if spec.search.sampler is Sampler.DENSITY:
        for past in spec.warm_start:
            kind = "experiment " if past.source.isdigit() else ""
            settings = format_length(len(past.good) + len(past.others), "settings")
            yield f"warm start from {kind}{past.source}: {settings}, {len(past.good)} of them good"
        if priors := {".".join(path): leaf.prior for path, leaf in spec.space.leaves() if leaf.prior is not None}:
            parts = (f"{name}={format_setting(each.value)} ({each.confidence})" for name, each in priors.items())
            yield _headline(f"{format_length(len(priors), 'priors')}: {', '.join(parts)}")
    if spec.start_with:
        points = format_length(len(spec.start_with), "starting points")
        yield f"{points}, which the first trials of the first bracket use"


def describe_given(given: Mapping[str, Any]) -> str:
    """Return hyperparameters that a user gave for a trial, such as ``lr=0.1, optimizer.name=sgd``."""
    return _headline(", ".join(f"{name}={format_setting(value)}" for name, value in flatten(given).items()))


def _headline(error: str) -> str:
    line = error[: _LONGEST_HEADLINE + 1].partition("\n")[0]
    return line if len(line) <= _LONGEST_HEADLINE else f"{line[:_LONGEST_HEADLINE]}…"
