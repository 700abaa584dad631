"""Commands that control an experiment, whether or not a driver is running."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from ashwood.cli.determined import NO_SCHEDULER
from ashwood.config import BOUNDS, parse_hparams, parse_max_size
from ashwood.config.wording import MOST_WHOLE, any_of, shown
from ashwood.engine import open_home
from ashwood.engine.control import ask
from ashwood.engine.removal import remove_experiment
from ashwood.errors import AshwoodError, ConfigError, ExperimentBusy, Problem, RequestRefused, nearest
from ashwood.experiment.events import (
    AddTrialRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.sizes import format_size
from ashwood.search.given import read_given
from ashwood.search.settings import MOST_TRIALS
from ashwood.terminal.messages import LONGEST_NAME
from ashwood.terminal.text import brief, from_argument, say, warn
from ashwood.views.descriptions import describe_given
from ashwood.views.wording import format_duration, format_value

_LONGEST_LABELS = 200
RELEASING = "running trials save a checkpoint and release their workers"


def pause_experiment(home: str | None, experiment: int) -> None:
    """Run ``ashwood pause``."""
    with open_home(home) as opened:
        state = opened.store.record(experiment).state
    if state in (ExperimentState.PAUSING, ExperimentState.PAUSED, ExperimentState.STOPPED):
        raise RequestRefused(f"experiment {experiment} is {state} already")
    steer(home, experiment, PauseRequested(), f"is pausing: {RELEASING}")


def steer(home: str | None, experiment: int, request: Request, under_way: str) -> None:
    """Carry out a request, and print the state of the experiment; ``under_way`` is for a state that will change."""
    with open_home(home) as opened:
        ask(opened, experiment, request)
        state = opened.store.record(experiment).state
    say(f"experiment {experiment} {under_way if state.active else f'is {state}'}")


def kill_trial(home: str | None, experiment: int, trial: int) -> None:
    """Run ``ashwood kill-trial``."""
    with open_home(home) as opened:
        ask(opened, experiment, TrialKillRequested(trial))
    say(f"trial {trial} of experiment {experiment} is killed; it is ranked last in its rung")


def stop_trial(home: str | None, experiment: int, trial: int) -> None:
    """Run ``ashwood stop-trial``."""
    with open_home(home) as opened:
        ask(opened, experiment, TrialStopRequested(trial))
    say(f"trial {trial} of experiment {experiment} is stopped; its results still count")


def add_trial(home: str | None, experiment: int, texts: Sequence[str], *, extra: bool) -> None:
    """Run ``ashwood add-trial``."""
    hparams = parse_hparams(texts)
    with open_home(home) as opened:
        ask(opened, experiment, AddTrialRequested(hparams, extra=extra))
        spec, state = opened.store.spec(experiment), opened.store.record(experiment).state
        is_running = state is ExperimentState.RUNNING and opened.is_driven(experiment)
    for path, message in read_given(spec.space, hparams).warnings:
        warn(f"{'.'.join(path)}: {message}" if path else f"the trial {message}")
    when = "when a worker is free" if is_running else "when the experiment is resumed"
    say(f"experiment {experiment}: a trial with {describe_given(hparams)} is created {when}")


# -- settings -----------------------------------------------------------------------------------------


def change_settings(home: str | None, experiment: int, changes: Sequence[str]) -> None:
    """Run ``ashwood set``."""
    settings = read_settings(changes, experiment)
    with open_home(home) as opened:
        ask(opened, experiment, SettingsChanged(settings))
    say(f"experiment {experiment}: {', '.join(_words(name, value) for name, value in settings.items())}")


def read_settings(changes: Sequence[str], experiment: int) -> dict[str, Any]:
    """Parse changes such as ``max_trials=200`` and ``max_time=2h`` into the fields of `SettingsChanged`.

    Raises:
        ConfigError: with all problems of the changes.
    """
    settings: dict[str, Any] = {}
    problems: list[Problem] = []
    for change in changes:
        key, equals, text = (part.strip() for part in change.partition("="))
        key = _ALIASES.get(key, key)
        if not equals or key not in _SETTINGS:
            close = nearest(key, _SETTINGS)
            hint = f"did you mean {close}?" if close and key not in _SETTINGS else f"settings are {any_of(_SETTINGS)}"
            if (instead := _INSTEAD.get(key.replace("-", "_"))) is not None:
                hint = instead.format(id=experiment, value=text or "N")
            knows_key = equals or instead is not None
            expected = "is not a setting that can be changed" if knows_key else "must read KEY=VALUE"
            problems.append(Problem("", f"{shown(change)} {expected}; {hint}", "set"))
            continue
        try:
            settings[key] = _SETTINGS[key](text)
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


_SETTINGS: dict[str, Callable[[str], Any]] = {
    "max_concurrent_trials": _whole(0, MOST_WHOLE),
    "max_trials": _whole(1, MOST_TRIALS),
    "max_invalid_trials": _whole(1, MOST_WHOLE),
    "replicates": _whole(0, MOST_TRIALS),
    **BOUNDS,
    "max_size": parse_max_size,
}
"""Settings that can change while an experiment runs, each with the parser of its value."""

_INSTEAD = {
    "max_slots": "write max_concurrent_trials={value}, which counts trials; "
    "ashwood resume {id} --workers {value} limits the slots of the next run",
    "slots": "ashwood resume {id} --workers {value} limits the slots of the next run",
    "workers": "ashwood resume {id} --workers {value} sets the slots of the next run",
    "weight": NO_SCHEDULER,
    "priority": NO_SCHEDULER,
    "name": "use: ashwood rename {id} NAME",
    "label": "use: ashwood label {id} LABEL",
    "labels": "use: ashwood label {id} LABEL",
    "description": "a description is set in the file before the experiment starts",
    "checkpoint_storage.max_size": "write max_size={value}",
    "gc_policy": "which checkpoints are kept is set in checkpoint_storage of the file; see: ashwood gc {id}",
    "max_length": "to train longer, extend the search: ashwood extend {id} --max-length {value}",
}
"""What to do instead of setting something that cannot be changed, for names that users of Determined try."""

_ALIASES = {"stop_when": "metric_at"}
"""Former names of settings, which are still accepted."""


def _words(name: str, value: Any) -> str:
    match name, value:
        case "metric_at", None:
            return "goal removed"
        case "metric_at", _:
            return f"it now stops when the metric reaches {format_value(value)}"
        case "max_time", None:
            return "time limit removed"
        case "max_time", _:
            return f"it now stops after {format_duration(value)}"
        case "max_size", None:
            return "limit of the size of checkpoints removed"
        case "max_size", _:
            return f"its checkpoints may now take {format_size(value)}"
    return f"{name} is now {value}"


# -- names and labels ---------------------------------------------------------------------------------


def rename_experiment(home: str | None, experiment: int, name: str) -> None:
    """Run ``ashwood rename``."""
    name = from_argument(name)
    if not name.strip():
        raise AshwoodError("the name must not be empty or blank")
    with open_home(home) as opened:
        opened.store.annotate(experiment, name=name)
    say(f"experiment {experiment} is now called {brief(name, LONGEST_NAME)}")


def label_experiment(home: str | None, experiment: int, add: Sequence[str], remove: Sequence[str]) -> None:
    """Run ``ashwood label``."""
    add, remove = [from_argument(label) for label in add], [from_argument(label) for label in remove]
    with open_home(home) as opened:
        before = opened.store.record(experiment).labels
        missing = [label for label in remove if label not in before]
        if missing:
            raise RequestRefused(
                f"experiment {experiment} has no label {brief(missing[0], LONGEST_NAME)}; {_labels(before)}"
            )
        labels = tuple(dict.fromkeys(label for label in (*before, *add) if label not in remove))
        if labels != before:
            opened.store.annotate(experiment, labels=labels)
    say(f"experiment {experiment}: {_labels(labels)}")


def archive_experiment(home: str | None, experiment: int, *, archived: bool) -> None:
    """Run ``ashwood archive``."""
    with open_home(home) as opened:
        opened.store.annotate(experiment, archived=archived)
    listed = "ashwood list --all shows it" if archived else "ashwood list shows it again"
    say(f"experiment {experiment} is {'archived' if archived else 'no longer archived'}: {listed}")


def _labels(labels: Sequence[str]) -> str:
    return f"labels {brief(', '.join(labels), _LONGEST_LABELS)}" if labels else "no labels"


# -- deleting -----------------------------------------------------------------------------------------


def delete_experiments(home: str | None, experiments: Sequence[int], *, yes: bool) -> None:
    """Run ``ashwood delete``."""
    with open_home(home) as opened:
        # All experiments are checked before the first one is deleted, so that an error deletes nothing.
        records = [opened.store.record(experiment) for experiment in dict.fromkeys(experiments)]
        for record in records:
            if opened.is_driven(record.id):
                raise ExperimentBusy(
                    f"experiment {record.id} is running, nothing was deleted. First stop it: ashwood kill {record.id}"
                )
        if not yes:
            for record in records:
                trials = sum(record.summary.get("trials", {}).values())
                say(
                    f"experiment {record.id} ({brief(record.name, LONGEST_NAME)}), {record.state}, {trials} trials",
                    err=True,
                )
            _confirm("Delete permanently, with all checkpoints, logs and files of its trials?")
        for record in records:
            remove_experiment(opened, record.id)
            say(f"experiment {record.id} ({brief(record.name, LONGEST_NAME)}) is deleted")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise AshwoodError(f"{question} Nothing was done, because there is no terminal to ask on; confirm with --yes")
    typer.confirm(question, abort=True, err=True)
