"""Commands that steer an experiment from anywhere, whether a driver lives or not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from ashwood.cli.output import format_duration, format_value
from ashwood.cli.text import brief, from_argument, say
from ashwood.config import parse_max_time, parse_metric
from ashwood.config.shape import MOST_WHOLE
from ashwood.config.wording import any_of, nearest, shown
from ashwood.engine import Home, open_home
from ashwood.engine.control import ask
from ashwood.engine.removal import remove_experiment
from ashwood.errors import AshwoodError, ConfigError, ExperimentBusy, Problem, RequestRefused
from ashwood.experiment.events import (
    CancelRequested,
    KillRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.search.settings import MOST_TRIALS

_LONGEST_NAME = 60
_LONGEST_LABELS = 200
_LETTING_GO = "running trials save a checkpoint and let go"


def pause_experiment(home: str | None, experiment: int) -> None:
    """``ashwood pause``."""
    with open_home(home) as opened:
        state = opened.store.record(experiment).state
        if state in (ExperimentState.PAUSING, ExperimentState.PAUSED, ExperimentState.STOPPED):
            raise RequestRefused(f"experiment {experiment} is {state} already")
        _steer(opened, experiment, PauseRequested(), f"is pausing: {_LETTING_GO}")


def cancel_experiment(home: str | None, experiment: int) -> None:
    """``ashwood cancel``."""
    with open_home(home) as opened:
        _steer(opened, experiment, CancelRequested(), f"is being canceled: {_LETTING_GO}")


def kill_experiment(home: str | None, experiment: int) -> None:
    """``ashwood kill``."""
    with open_home(home) as opened:
        _steer(opened, experiment, KillRequested(), "is being killed")


def _steer(home: Home, experiment: int, request: Request, under_way: str) -> None:
    """Have a request carried out, and say where the experiment stands then."""
    ask(home, experiment, request)
    state = home.store.record(experiment).state
    say(f"experiment {experiment} {under_way if state.active else f'is {state}'}")


def kill_trial(home: str | None, experiment: int, trial: int) -> None:
    """``ashwood kill-trial``."""
    with open_home(home) as opened:
        ask(opened, experiment, TrialKillRequested(trial))
    say(f"trial {trial} of experiment {experiment} is killed; it counts as the worst in its rung")


def stop_trial(home: str | None, experiment: int, trial: int) -> None:
    """``ashwood stop-trial``."""
    with open_home(home) as opened:
        ask(opened, experiment, TrialStopRequested(trial))
    say(f"trial {trial} of experiment {experiment} is stopped where it is; its results stand")


# -- settings -----------------------------------------------------------------------------------------


def change_settings(home: str | None, experiment: int, changes: Sequence[str]) -> None:
    """``ashwood set``."""
    settings = read_settings(changes)
    with open_home(home) as opened:
        ask(opened, experiment, SettingsChanged(settings))
    say(f"experiment {experiment}: {', '.join(_words(name, value) for name, value in settings.items())}")


def read_settings(changes: Sequence[str]) -> dict[str, Any]:
    """``max_trials=200 max_time=2h`` as `SettingsChanged` has it.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    settings: dict[str, Any] = {}
    problems: list[Problem] = []
    for change in changes:
        key, equals, text = (part.strip() for part in change.partition("="))
        if not equals or key not in _SETTINGS:
            close = nearest(key, _SETTINGS)
            hint = f"did you mean {close}?" if close and key not in _SETTINGS else f"it is {any_of(_SETTINGS)}"
            expected = "is no setting that can change" if equals else "must read KEY=VALUE"
            problems.append(Problem("", f"{shown(change)} {expected}; {hint}", "set"))
            continue
        name, read = _SETTINGS[key]
        try:
            settings[name] = read(text)
        except ValueError as error:
            problems.append(Problem(key, str(error), "set"))
    if problems:
        raise ConfigError(problems)
    return settings


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        digits = text.lstrip("0") or text[:1]
        if not digits.isdecimal():
            raise ValueError(f"must be a whole number of at least {least}, not {shown(text)}")
        if len(digits) > len(str(most)) or int(digits) > most:
            raise ValueError(f"must be at most {most:,}, not {shown(text)}")
        if int(digits) < least:
            raise ValueError(f"must be a whole number of at least {least}, not {shown(text)}")
        return int(digits)

    return read


_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "max_concurrent_trials": ("max_concurrent_trials", _whole(0, MOST_WHOLE)),
    "max_trials": ("max_trials", _whole(1, MOST_TRIALS)),
    "max_invalid_trials": ("max_invalid_trials", _whole(1, MOST_WHOLE)),
    "stop_when": ("stop_at", parse_metric),
    "max_time": ("max_seconds", parse_max_time),
}
"""What can change while an experiment runs: by what people write, the name in the record and how to read it."""


def _words(name: str, value: Any) -> str:
    match name, value:
        case "stop_at", None:
            return "it stops at no metric now"
        case "stop_at", _:
            return f"it stops when {format_value(value)} is reached now"
        case "max_seconds", None:
            return "it may run for any time now"
        case "max_seconds", _:
            return f"it may run for {format_duration(value)} now"
    return f"{name} is {value} now"


# -- what people call it ------------------------------------------------------------------------------


def rename_experiment(home: str | None, experiment: int, name: str) -> None:
    """``ashwood rename``."""
    name = from_argument(name)
    if not name.strip():
        raise AshwoodError("the name must not be empty")
    with open_home(home) as opened:
        opened.store.annotate(experiment, name=name)
    say(f"experiment {experiment} is called {brief(name, _LONGEST_NAME)} now")


def label_experiment(home: str | None, experiment: int, add: Sequence[str], remove: Sequence[str]) -> None:
    """``ashwood label``."""
    add, remove = [from_argument(label) for label in add], [from_argument(label) for label in remove]
    with open_home(home) as opened:
        before = opened.store.record(experiment).labels
        missing = [label for label in remove if label not in before]
        if missing:
            raise RequestRefused(
                f"experiment {experiment} has no label {brief(missing[0], _LONGEST_NAME)}; {_labels(before)}"
            )
        labels = tuple(dict.fromkeys(label for label in (*before, *add) if label not in remove))
        if labels != before:
            opened.store.annotate(experiment, labels=labels)
    say(f"experiment {experiment}: {_labels(labels)}")


def archive_experiment(home: str | None, experiment: int, *, archived: bool) -> None:
    """``ashwood archive``."""
    with open_home(home) as opened:
        opened.store.annotate(experiment, archived=archived)
    listed = "ashwood list hides it, ashwood list --all doesn't" if archived else "ashwood list shows it again"
    say(f"experiment {experiment} is {'archived' if archived else 'no longer archived'}: {listed}")


def _labels(labels: Sequence[str]) -> str:
    return f"labels {brief(', '.join(labels), _LONGEST_LABELS)}" if labels else "no labels"


# -- deleting -----------------------------------------------------------------------------------------


def delete_experiments(home: str | None, experiments: Sequence[int], *, yes: bool) -> None:
    """``ashwood delete``."""
    with open_home(home) as opened:
        # All are checked before the first is gone.
        records = [opened.store.record(experiment) for experiment in dict.fromkeys(experiments)]
        for record in records:
            if opened.is_driven(record.id):
                raise ExperimentBusy(
                    f"experiment {record.id} is running; first: ashwood kill {record.id} (nothing was deleted)"
                )
        if not yes:
            for record in records:
                trials = sum(record.summary.get("trials", {}).values())
                say(
                    f"experiment {record.id} ({brief(record.name, _LONGEST_NAME)}), {record.state}, {trials} trials",
                    err=True,
                )
            _confirm("Delete for good, with all checkpoints and logs?")
        for record in records:
            remove_experiment(opened, record.id)
            say(f"experiment {record.id} ({brief(record.name, _LONGEST_NAME)}) is deleted")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise AshwoodError(f"{question} Say so with --yes; nothing was done")
    typer.confirm(question, abort=True, err=True)
