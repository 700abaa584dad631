"""``ashwood events`` and ``ashwood replay``: the log, and the check that the search decides what it holds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import typer

from ashwood.cli.output import format_capacity, format_length, format_value, print_json, to_json
from ashwood.engine import open_home, replay
from ashwood.errors import IllegalEvent
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import Entry, ExperimentId, Seq, Store
from ashwood.experiment import decisions as d
from ashwood.experiment import events as e
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.search.vocabulary import TrialId

_FOLLOW_SECONDS = 0.2


def show_events(home: str | None, experiment: int, *, follow: bool, trial: int | None, after: int, json: bool) -> None:
    """``ashwood events``."""
    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
        try:
            for seq, entry in _entries(opened.store, experiment, after, follow=follow):
                if trial is None or concerns(entry, trial):
                    typer.echo(entry_json(seq, entry) if json else entry_line(seq, entry, spec))
        except KeyboardInterrupt:
            pass


def check_replay(home: str | None, experiment: int, *, json: bool) -> None:
    """``ashwood replay``."""
    count = 0

    def counted(entries: Sequence[Entry]) -> None:
        nonlocal count
        count += len(entries)

    with open_home(home) as opened:
        spec, log = opened.store.spec(experiment), opened.store.log(experiment)
        start = time.perf_counter()
        state = replay(spec, log, [counted]).state
        seconds = time.perf_counter() - start
    if json:
        print_json({"experiment": experiment, "events": count, "state": state, "seconds": seconds})
        return
    typer.echo(
        f"experiment {experiment}: {format_length(count, 'events')} replayed in {seconds:.2f} s, "
        "every decision is what the search decides"
    )


def _entries(store: Store, experiment: ExperimentId, after: Seq, *, follow: bool) -> Iterator[tuple[Seq, Entry]]:
    """Entries of the log; with ``follow`` also those to come, until the experiment ends."""
    log = store.log(experiment)
    while True:
        # Asked before reading: what leads to a state is recorded together with it.
        state = store.record(experiment).state
        for seq, entry in log.read(after=after):
            after = seq
            yield seq, entry
        if not follow or state.ended or state is ExperimentState.STOPPED:
            return
        time.sleep(_FOLLOW_SECONDS)


def follow(experiment: Experiment, entry: Entry) -> Experiment | None:
    """The experiment after an entry; None: this version of Ashwood can't follow its log."""
    try:
        experiment.handle(entry.event)
    except IllegalEvent:
        return None
    return experiment


def concerns(entry: Entry, trial: TrialId) -> bool:
    """Whether an entry is about a trial, or decides something about it."""
    return any(getattr(each, "trial", None) == trial for each in (entry.event, *entry.decisions))


def entry_json(seq: Seq, entry: Entry) -> str:
    """An entry as a line of strict JSON."""
    return json.dumps({"seq": seq, "at": entry.at, **to_json(json.loads(encode_entry(entry)))})


def entry_line(seq: Seq, entry: Entry, spec: ExperimentSpec) -> str:
    """An entry as a line for people: number, time, what happened, what was decided and why."""
    at = datetime.fromtimestamp(entry.at, UTC).astimezone()
    happened = describe_event(entry.event, spec.unit)
    decided = describe_decisions(entry.decisions, spec.unit)
    line = f"{seq:>6}  {at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}  {happened:<52}"
    return " ".join(f"{line}  → {decided}".splitlines()) if decided else " ".join(line.splitlines()).rstrip()


def describe_event(event: e.Event, unit: Unit) -> str:
    """What happened, in a few words."""
    match event:
        case e.DriverStarted(slots):
            return f"driver started, {format_length(slots, 'workers')}"
        case e.CapacityChanged(slots, nodes, why):
            return f"capacity changed, {format_capacity(slots, len(nodes), why)}"
        case e.AttemptStarted(trial, attempt, slot, length, node):
            where = f"slot {slot} on {node}" if node else f"slot {slot}"
            return f"trial {trial} started at {format_length(length, unit)}, attempt {attempt}, {where}"
        case e.ValidationReported(trial, _, length, metrics):
            values = ", ".join(f"{name} {format_value(value)}" for name, value in metrics.items())
            return f"trial {trial} reported at {format_length(length, unit)}: {values}"
        case e.CheckpointSaved(trial, _, length):
            return f"trial {trial} saved at {format_length(length, unit)}"
        case e.AttemptEnded(trial, attempt):
            return f"trial {trial} let go, attempt {attempt}"
        case e.AttemptFailed(trial, attempt, error):
            return f"trial {trial} failed, attempt {attempt}: {_headline(error)}"
        case e.AttemptPreempted(trial, attempt, why):
            return f"trial {trial} lost its worker, attempt {attempt}: {_headline(why)}"
        case e.DiskFilled(trial, attempt, error):
            return f"trial {trial} found a disk full, attempt {attempt}: {_headline(error)}"
        case e.CheckpointDamaged(trial, attempt, path, why):
            return f"trial {trial} found {path} damaged, attempt {attempt}: {_headline(why)}"
        case _:
            return _describe_request(event)


def _describe_request(event: e.Event) -> str:
    match event:
        case e.HparamsRejected(trial, _, why):
            return f"trial {trial} rejected its hyperparameters: {_headline(why)}"
        case e.TrialStopped(trial):
            return f"trial {trial} stopped itself"
        case e.PauseRequested(why):
            return f"pause requested: {why}" if why else "pause requested"
        case e.CancelRequested():
            return "cancel requested"
        case e.KillRequested():
            return "kill requested"
        case e.TrialKillRequested(trial):
            return f"trial {trial} is to be killed"
        case e.TrialStopRequested(trial):
            return f"trial {trial} is to be stopped"
        case e.SettingsChanged(settings):
            return "settings changed: " + ", ".join(f"{name}={format_value(v)}" for name, v in settings.items())
        case e.TimeRanOut(seconds):
            return f"time ran out after {seconds:.0f} s"
        case e.DriverStopped():
            return "driver stopped"
    return type(event).__name__


def describe_decisions(decisions: Iterable[d.Decision], unit: Unit) -> str:
    """All that was decided at once."""
    return "; ".join(describe_decision(decision, unit) for decision in decisions)


def describe_decision(decision: d.Decision, unit: Unit) -> str:
    """What was decided, and why."""
    match decision:
        case d.CreateTrial(trial=trial, target=target, why=why):
            return f"create trial {trial} to {format_length(target, unit)} ({why})"
        case d.TrainTrial(trial, attempt, target, why):
            return f"train trial {trial} to {format_length(target, unit)}, attempt {attempt} ({why})"
        case d.ContinueTrial(trial, _, target, why):
            return f"trial {trial} goes on to {format_length(target, unit)} ({why})"
        case d.PauseTrial(trial, _, why):
            return f"pause trial {trial} ({why})"
        case d.SuspendTrial(trial):
            return f"suspend trial {trial}"
        case d.CompleteTrial(trial, _, why):
            return f"trial {trial} is completed ({why})"
        case d.StopTrial(trial, _, why):
            return f"stop trial {trial} ({why})"
        case d.AbortTrial(trial):
            return f"abort trial {trial}"
        case d.CloseTrial(trial, state, why):
            return f"trial {trial} is {state} ({why})"
        case _:
            return _describe_the_rest(decision)


def _describe_the_rest(decision: d.Decision) -> str:
    match decision:
        case d.DeleteCheckpoint(_, path):
            return f"delete checkpoint {path}"
        case d.ChangeSettings(concurrent, trials, stop_at, seconds):
            bounds = f"stop at {format_value(stop_at)}, at most {format_value(seconds)} s"
            return f"{concurrent} trials at once, {' + '.join(map(str, trials))} in all, {bounds}"
        case d.LeaveExperiment(state, why):
            return f"no more jobs, the experiment will be {state} ({why})"
        case d.Warn(message):
            return f"warning: {message}"
        case d.EndExperiment(state, why):
            return f"the experiment is {state} ({why})"
    return type(decision).__name__


def _headline(error: str) -> str:
    return error.partition("\n")[0]
