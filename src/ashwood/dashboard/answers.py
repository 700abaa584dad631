"""The JSON answers of the API, built from stored experiments and their views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml

from ashwood.dashboard.library import Followed
from ashwood.dashboard.shapes import (
    Attempt,
    Best,
    Card,
    Copies,
    Description,
    EventLine,
    Failure,
    Header,
    Node,
    Possible,
    Row,
    Settings,
    Step,
    TrialPage,
)
from ashwood.errors import AshwoodError, NotFound
from ashwood.eventlog.port import ExperimentId, ExperimentRecord, Seq
from ashwood.experiment import decisions as d
from ashwood.experiment import events as e
from ashwood.experiment.entry import Entry
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.trial.storage.port import is_foreign
from ashwood.views.descriptions import describe_decision, describe_event
from ashwood.views.nodes import nodes_of
from ashwood.views.trials import TrialRow

INTERRUPTED = "interrupted"
"""State of an experiment whose driver ended without releasing its lease."""
DAMAGED = "damaged"
"""State of an experiment whose event log or specification is damaged."""


def failure(error: AshwoodError) -> Failure:
    """Return the JSON body of an error: the part of its message before the first semicolon, and the hint after it."""
    what, _, hint = str(error).partition("; ")
    return {"error": {"what": what, "hint": hint}}


def card(record: ExperimentRecord, spec: ExperimentSpec, *, driven: bool, now: float) -> Card:
    """Return an experiment's entry in the list, from the latest summary that its driver stored."""
    summary = record.summary
    trials: Mapping[str, int] = summary.get("trials", {})
    state = INTERRUPTED if record.state.active and not driven else str(record.state)
    return {
        "id": record.id,
        "name": record.name,
        "state": state,
        "labels": list(record.labels),
        "archived": record.archived,
        "created_at": record.created_at,
        "method": str(spec.search.method),
        "metric": spec.metric,
        "smaller_is_better": spec.smaller_is_better,
        "unit": str(spec.unit),
        "max_length": spec.search.max_length,
        "fraction": summary.get("fraction", 0.0),
        "seconds_left": _left(summary, now) if state == ExperimentState.RUNNING else None,
        "seconds": _run(summary, now, runs=driven),
        "trials": dict(trials),
        "trials_created": sum(trials.values()),
        "trials_planned": summary.get("trials_planned"),
        "best": summary.get("best"),
        "damage": record.damage,
    }


def damaged_card(record: ExperimentRecord, damage: str, spec: ExperimentSpec | None = None) -> Card:
    """Return the list entry of a damaged experiment.  ``spec`` is None if its specification is damaged too."""
    return {
        "id": record.id,
        "name": record.name,
        "state": DAMAGED,
        "labels": list(record.labels),
        "archived": record.archived,
        "created_at": record.created_at,
        "method": "" if spec is None else str(spec.search.method),
        "metric": "" if spec is None else spec.metric,
        "smaller_is_better": spec is None or spec.smaller_is_better,
        "unit": "" if spec is None else str(spec.unit),
        "max_length": 0 if spec is None else spec.search.max_length,
        "fraction": 0.0,
        "seconds_left": None,
        "seconds": None,
        "trials": {},
        "trials_created": 0,
        "trials_planned": None,
        "best": None,
        "damage": damage,
    }


def _left(summary: Mapping[str, Any], now: float) -> float | None:
    left, at = summary.get("seconds_left"), summary.get("at")
    return left if left is None or at is None else max(0.0, left - (now - at))


def _run(summary: Mapping[str, Any], now: float, *, runs: bool) -> float | None:
    """Return the seconds that drivers have run the experiment, or None if the summary has no number."""
    ran, at = summary.get("seconds"), summary.get("at")
    return ran if ran is None or at is None or not runs else ran + max(0.0, now - at)


def header(followed: Followed, listed: Card, now: float) -> Header:
    """Return the header of an experiment's page: its list entry ``listed``, updated from its event log."""
    progress = followed.chronicle.progress
    if listed["state"] != INTERRUPTED or not progress.state.active:
        listed["state"] = str(progress.state)
    runs = listed["state"] in (ExperimentState.RUNNING, ExperimentState.PAUSING, ExperimentState.STOPPING)
    spending = progress.trials.spending
    forecast = progress.forecast()
    best, seen = progress.best, progress.seen
    states = progress.trials.states
    return {
        **listed,
        # The event log is newer than the summary, which the driver writes once a second.
        "fraction": round(forecast.fraction, 4),
        "trials": {str(state): states[state] for state in TrialState if states[state]},
        "trials_created": len(progress.trials.rows),
        "trials_planned": progress.trials_planned,
        "best": None if best is None else Best(trial=best.trial, metric=best.metric, length=best.length, at=best.at),
        "seen": None if seen is None else Best(trial=seen.trial, metric=seen.metric, length=seen.length, at=seen.at),
        "seconds": spending.driven(now) if runs else spending.driver_seconds,
        "why_ended": progress.why_ended,
        "utilisation": spending.utilisation(now if runs else None),
        "slots": spending.slots if runs else 0,
        "slots_in_use": len(spending.live) if runs else 0,
        "nodes": [
            Node(name=node.name, slots=node.slots, trials=list(node.trials))
            for node in (nodes_of(spending) if runs else [])
        ],
        "reports": progress.reports,
        "failed_attempts": progress.failed_attempts,
        "length_trained": progress.length_trained,
        "length_repeated": progress.length_repeated,
        "length_expected": round(forecast.total_length, 1),
        "warnings": list(progress.recent_warnings),
        "brackets": [
            {
                "number": bracket.number,
                "planned": bracket.planned,
                "created": bracket.created,
                "rungs": [
                    {
                        "length": rung.length,
                        "arrived": rung.arrived,
                        "promoted": rung.promoted,
                        "failed": rung.failed,
                        "training": len(rung.training),
                        "waiting": len(rung.waiting),
                    }
                    for rung in bracket.rungs
                ],
            }
            for bracket in progress.ladder.brackets
        ],
        "settings": _settings(followed),
        "can": _possible(ExperimentState(listed["state"]) if listed["state"] != INTERRUPTED else None),
        "seq": followed.seq,
        "read": followed.read,
    }


def _settings(followed: Followed) -> Settings:
    """Return the current values of the settings that can change while the experiment runs."""
    search, changed = followed.spec.search, followed.chronicle.progress.settings
    return {
        "max_concurrent_trials": search.max_concurrent_trials if changed is None else changed.max_concurrent_trials,
        "max_trials": followed.chronicle.progress.trials_planned,
        "max_invalid_trials": followed.chronicle.progress.max_invalid_trials,
        "metric_at": followed.spec.stop_at if changed is None else changed.stop_at,
        "max_seconds": followed.spec.max_seconds if changed is None else changed.max_seconds,
    }


def _possible(state: ExperimentState | None) -> Possible:
    """Return which actions are allowed in a state, or in an interrupted experiment if it is None."""
    running = state in (ExperimentState.CREATED, ExperimentState.RUNNING, None)
    ended = state is not None and state.ended
    resting = state in (ExperimentState.PAUSED, ExperimentState.STOPPED, ExperimentState.CREATED, None)
    return {"pause": running, "activate": resting, "cancel": not ended, "kill": not ended, "set": not ended}


def description(followed: Followed) -> Description:
    """Return the part of an experiment's page that never changes."""
    spec = followed.spec
    return {
        "description": spec.description,
        "seed": spec.seed,
        "entrypoint": spec.entrypoint.target,
        "workdir": spec.workdir,
        "config": spec.config_text,
        "provenance": dict(spec.provenance),
        "divisor": float(spec.search.divisor),
        "lengths": [list(bracket) for bracket in followed.chronicle.ladder.lengths],
    }


def best_trial(followed: Followed) -> Row | None:
    """Return the best trial with its hyperparameters and its best checkpoint, or None if none has reported a number."""
    row = followed.chronicle.progress.trials.leader
    if row is None:
        return None
    saved = row.best_checkpoint
    download = None if saved is None or is_foreign(saved.path) else _download(followed.id, row.id, saved.path)
    return {**followed.record(row.id), **copies(row), "download": download}


def copies(row: TrialRow) -> Copies:
    """Return a trial's hyperparameters in formats to copy: as JSON, YAML and Python."""
    hparams = {"hyperparameters": dict(row.hparams)}
    return {
        "hyperparameters": dict(row.hparams),
        "as_yaml": yaml.safe_dump(hparams, sort_keys=False, allow_unicode=True),
        "as_python": "hparams = " + repr(dict(row.hparams)),
    }


def find_trial(followed: Followed, trial: TrialId) -> TrialRow:
    """Return a trial's row.

    Raises:
        NotFound: there is no such trial, or the event log has not been read far enough yet.
    """
    rows = followed.chronicle.progress.trials.rows
    if trial not in rows:
        there = f"it has trials 0 to {len(rows) - 1}" if rows else "it has none yet"
        raise NotFound(f"experiment {followed.id} has no trial {trial}; {there}")
    return rows[trial]


def trial_page(followed: Followed, trial: TrialId, root: str) -> TrialPage:
    """Return a trial's page without its curves and its output; ``root`` is the directory of the checkpoints."""
    row, spec, told = find_trial(followed, trial), followed.spec, followed.chronicle
    ended = row.state not in (TrialState.RUNNING, TrialState.PAUSED)
    kept = told.checkpoints.kept_as(trial)
    entries = followed.about(trial)
    happenings = [(at, event) for at, event, _ in entries if _is_happening(event, trial)]
    return {
        "row": followed.record(trial),
        **copies(row),
        "target": row.target,
        "lengths": list(told.ladder.lengths[row.bracket]),
        "way": [
            _step(entry.at, decision, spec)
            for entry in entries
            for decision in entry.decisions
            if getattr(decision, "trial", None) == trial and not isinstance(decision, d.DeleteCheckpoint)
        ],
        "attempts": _attempts(followed, trial, happenings),
        "happenings": [{"at": at, "text": describe_event(event, spec.unit)} for at, event in happenings],
        "checkpoints": [
            {
                "name": each.name,
                "length": each.length,
                "metric": each.metric,
                "saved_at": each.saved_at,
                "kept_as": list(kept.get(each.name, ())),
                "place": each.name if is_foreign(each.name) else f"{root}/{each.name}",
                "download": None if is_foreign(each.name) else _download(followed.id, trial, each.name),
            }
            for each in told.checkpoints.of(trial)
        ],
        "errors": list(row.errors),
        "can": {"stop": not ended, "kill": not ended},
    }


def _download(experiment: ExperimentId, trial: TrialId, checkpoint: str) -> str:
    name = checkpoint.rpartition("/")[2]
    return f"/api/v1/experiments/{experiment}/trials/{trial}/checkpoints/{name}/download"


def _is_happening(event: e.Event, trial: TrialId) -> bool:
    return getattr(event, "trial", None) == trial and not isinstance(event, e.ValidationReported)


def _step(at: float, decision: d.Decision, spec: ExperimentSpec) -> Step:
    """Return a decision about a trial, with the numbers in its reason."""
    why = getattr(decision, "why", None)
    step: Step = {
        "at": at,
        "kind": _KINDS.get(type(decision), "other"),
        "text": describe_decision(decision, spec.unit),
        "reason": "" if why is None else str(why),
        "target": getattr(decision, "target", None),
    }
    for name in _NUMBERS:
        if hasattr(why, name):
            step[name] = getattr(why, name)
    return step


_NUMBERS: tuple[Literal["rung", "rank", "of", "best"], ...] = ("rung", "rank", "of", "best")


_KINDS: Mapping[type, str] = {
    d.CreateTrial: "created",
    d.TrainTrial: "trains",
    d.ContinueTrial: "goes on",
    d.PauseTrial: "paused",
    d.SuspendTrial: "suspended",
    d.CompleteTrial: "completed",
    d.StopTrial: "stopped",
    d.AbortTrial: "aborted",
    d.CloseTrial: "closed",
    d.ReopenTrial: "reopened",
}


def _attempts(followed: Followed, trial: TrialId, happenings: Sequence[tuple[float, e.Event]]) -> list[Attempt]:
    attempts: dict[int, Attempt] = {}
    for at, event in happenings:
        match event:
            case e.AttemptStarted(_, number, slot, length, node):
                attempts[number] = {
                    "number": number,
                    "slot": slot,
                    "node": node or None,
                    "length": length,
                    "started_at": at,
                    "ended_at": None,
                    "how": "at work",
                    "error": None,
                }
            case _ if isinstance(event, e.LastWord) and event.attempt in attempts:
                how, said = _end_of(event)
                attempts[event.attempt].update({"ended_at": at, "how": how, "error": said})
    live = followed.chronicle.progress.trials.spending.live.get(trial)
    for attempt in attempts.values():
        if attempt["ended_at"] is None and (live is None or live.attempt != attempt["number"]):
            attempt.update({"ended_at": _end_of_driver(followed, attempt["started_at"]), "how": "lost its driver"})
    return list(attempts.values())


def _end_of_driver(followed: Followed, at: float) -> float:
    """Return the last known time of the driver that ran at the time ``at``."""
    shifts = followed.chronicle.timeline.shifts
    return next((end for begin, end in reversed(shifts) if begin <= at), at)


_ENDS: Mapping[type, str] = {
    e.AttemptEnded: "let go",
    e.AttemptFailed: "failed",
    e.AttemptPreempted: "lost its worker",
    e.StorageFailed: "found a disk full",
    e.CheckpointDamaged: "found its checkpoint damaged",
    e.HparamsRejected: "rejected its hyperparameters",
    e.TrialStopped: "stopped itself",
}


def _end_of(event: e.LastWord) -> tuple[str, str | None]:
    """Return how an attempt ended, and its error message or None."""
    if isinstance(event, e.AttemptFailed) and not event.is_failure:
        return e.ABORTED, None
    if isinstance(event, e.StorageFailed) and event.cause == e.UNREACHABLE:
        return "could not use the checkpoint storage", event.error
    if isinstance(event, e.AttemptPreempted) and event.hung:
        return "was killed", event.why
    return _ENDS[type(event)], getattr(event, "error", None) or getattr(event, "why", None)


def event_line(seq: Seq, entry: Entry, spec: ExperimentSpec) -> EventLine:
    """Return a readable line for an entry of the event log."""
    return {
        "seq": seq,
        "at": entry.at,
        "trial": getattr(entry.event, "trial", None),
        "text": describe_event(entry.event, spec.unit),
        "decided": _decided(entry, spec),
    }


def _decided(entry: Entry, spec: ExperimentSpec) -> list[str]:
    """Return descriptions of an entry's decisions; only the first ones, as the end of a search may close thousands."""
    told = [describe_decision(decision, spec.unit) for decision in entry.decisions[:_MOST_DECISIONS]]
    more = len(entry.decisions) - len(told)
    return [*told, f"and {more:,} more"] if more else told


_MOST_DECISIONS = 50
