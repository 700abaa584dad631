"""Commands that control an experiment, whether or not a driver is running."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from ashwood.cli.determined import NO_SCHEDULER
from ashwood.config import BOUNDS, in_its_section, parse_hparams, parse_max_size
from ashwood.config.wording import MOST_WHOLE, shown
from ashwood.engine import open_home
from ashwood.engine.control import ask, write_note
from ashwood.engine.removal import remove_experiment
from ashwood.errors import AshwoodError, ConfigError, ExperimentBusy, Problem, RequestRefused, nearest
from ashwood.eventlog.fold_cache import read_progress
from ashwood.eventlog.rows import MOST_NOTE_BYTES
from ashwood.experiment.events import (
    AddTrialRequested,
    CancelRequested,
    KillRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.sizes import format_size
from ashwood.search.given import read_given
from ashwood.search.settings import MOST_TRIALS
from ashwood.terminal.messages import LONGEST_NAME
from ashwood.terminal.output import print_json, print_markdown, tell
from ashwood.terminal.text import brief, from_argument, say, warn
from ashwood.views.descriptions import describe_given
from ashwood.views.wording import any_of, format_duration, format_value

_LONGEST_LABELS = 200
_ENDED = tuple(state for state in ExperimentState if state.ended)
_RELEASING = "running trials save a checkpoint and release their workers"


def pause_experiment(home: str | None, experiment: int, *, json: bool) -> None:
    """Run ``ashwood pause``."""
    done = (ExperimentState.PAUSING, ExperimentState.PAUSED, ExperimentState.STOPPED)
    steer(home, experiment, PauseRequested(), f"is pausing: {_RELEASING}", done=done, json=json)


def cancel_experiment(home: str | None, experiment: int, *, json: bool) -> None:
    """Run ``ashwood cancel``."""
    done = list(_ENDED)
    with open_home(home) as opened:
        leaving = read_progress(opened, experiment).leaving
    if leaving is not None and leaving.state is ExperimentState.CANCELED:
        done.append(ExperimentState.STOPPING)
    steer(home, experiment, CancelRequested(), f"is being canceled: {_RELEASING}", done=done, json=json)


def kill_experiment(home: str | None, experiment: int, *, json: bool) -> None:
    """Run ``ashwood kill``."""
    steer(home, experiment, KillRequested(), "is being killed", done=_ENDED, json=json)


def steer(
    home: str | None,
    experiment: int,
    request: Request,
    under_way: str,
    *,
    done: Sequence[ExperimentState] = (),
    json: bool,
) -> None:
    """Carry out a request, and print the state of the experiment.

    Args:
        home: the home.
        experiment: the experiment.
        request: the request.
        under_way: what to print for a state that will change.
        done: states in which there is nothing to do, because an earlier request had the same effect.
        json: whether to print JSON.
    """
    with open_home(home) as opened:
        before = opened.store.record(experiment).state
        if before not in done:
            ask(opened, experiment, request)
        state = opened.store.record(experiment).state
    words = f"is already {state}" if before in done else under_way if state.active else f"is {state}"
    tell(f"experiment {experiment} {words}", json=json, experiment=experiment, state=state, changed=before not in done)


def kill_trial(home: str | None, experiment: int, trial: int, *, json: bool) -> None:
    """Run ``ashwood kill --trial``."""
    words = "killed; it is ranked last in its rung"
    _end_trial(home, experiment, TrialKillRequested(trial), words, TrialState.KILLED, json=json)


def stop_trial(home: str | None, experiment: int, trial: int, *, json: bool) -> None:
    """Run ``ashwood cancel --trial``."""
    words = "stopped; its results still count"
    _end_trial(home, experiment, TrialStopRequested(trial), words, TrialState.STOPPED, json=json)


def _end_trial(
    home: str | None,
    experiment: int,
    request: TrialKillRequested | TrialStopRequested,
    words: str,
    done: TrialState,
    *,
    json: bool,
) -> None:
    with open_home(home) as opened:
        row = read_progress(opened, experiment).trials.rows.get(request.trial)
        is_done = row is not None and row.state is done
        if not is_done:
            ask(opened, experiment, request)
    words = f"is already {done}" if is_done else f"is {words}"
    text = f"trial {request.trial} of experiment {experiment} {words}"
    tell(text, json=json, experiment=experiment, trial=request.trial, state=done, changed=not is_done)


def add_trial(home: str | None, experiment: int, texts: Sequence[str], *, extra: bool, json: bool) -> None:
    """Run ``ashwood add-trial``."""
    hparams = parse_hparams(texts)
    with open_home(home) as opened:
        ask(opened, experiment, AddTrialRequested(hparams, extra=extra))
        spec, state = opened.store.spec(experiment), opened.store.record(experiment).state
        is_running = state is ExperimentState.RUNNING and opened.is_driven(experiment)
    for path, message in read_given(spec.space, hparams).warnings:
        warn(f"{'.'.join(path)}: {message}" if path else f"the trial {message}")
    when = "when a worker is free" if is_running else "when the experiment is resumed"
    text = f"experiment {experiment}: a trial with {describe_given(hparams)} is created {when}"
    tell(text, json=json, experiment=experiment, hyperparameters=hparams, extra=extra, running=is_running)


# -- settings -----------------------------------------------------------------------------------------


def change_settings(home: str | None, experiment: int, changes: Sequence[str], *, json: bool) -> None:
    """Run ``ashwood set``."""
    settings = read_settings(changes, experiment)
    with open_home(home) as opened:
        ask(opened, experiment, SettingsChanged(settings))
    text = f"experiment {experiment}: {', '.join(_words(name, value) for name, value in settings.items())}"
    tell(text, json=json, experiment=experiment, settings=settings)


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
        last = key.rpartition(".")[2]
        if last in SETTINGS and tuple(key.split(".")) == in_its_section((last,)):
            key = last  # As in the experiment file: searcher.max_trials.
        if not equals or key not in SETTINGS:
            close = nearest(key, SETTINGS)
            hint = f"did you mean {close}?" if close and key not in SETTINGS else f"settings are {any_of(SETTINGS)}"
            if (instead := _INSTEAD.get(key.replace("-", "_"))) is not None:
                hint = instead.format(id=experiment, value=text or "N")
            knows_key = equals or instead is not None
            expected = "is not a setting that can be changed" if knows_key else "must read KEY=VALUE"
            problems.append(Problem("", f"{shown(change)} {expected}; {hint}", "set"))
            continue
        try:
            settings[key] = SETTINGS[key](text)
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


SETTINGS: dict[str, Callable[[str], Any]] = {
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
    "note": "use: ashwood note {id} TEXT",
    "description": "a description is set in the file before the experiment starts",
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


def rename_experiment(home: str | None, experiment: int, name: str, *, json: bool) -> None:
    """Run ``ashwood rename``."""
    name = from_argument(name)
    if not name.strip():
        raise AshwoodError("the name must not be empty or blank")
    with open_home(home) as opened:
        opened.store.annotate(experiment, name=name)
    text = f"experiment {experiment} is now called {brief(name, LONGEST_NAME)}"
    tell(text, json=json, experiment=experiment, name=name)


def label_experiment(
    home: str | None, experiment: int, add: Sequence[str], remove: Sequence[str], *, json: bool
) -> None:
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
    tell(f"experiment {experiment}: {_labels(labels)}", json=json, experiment=experiment, labels=labels)


def note_on(home: str | None, experiment: int, trial: int | None, text: str | None, *, json: bool) -> None:
    """Run ``ashwood note``: write a text, remove the note if the text is empty, or print the note if it is None."""
    whose = f"experiment {experiment}" if trial is None else f"trial {trial} of experiment {experiment}"
    with open_home(home) as opened:
        if text is not None:
            write_note(opened, experiment, trial, text)
            done = f"the note on {whose} is {'written' if text else 'removed'}"
            return tell(done, json=json, experiment=experiment, trial=trial, note=text or None)
        found = opened.store.notes(experiment).get(trial)
    if json:
        print_json({"experiment": experiment, "trial": trial, "note": found})
    elif found is None:
        option = "" if trial is None else f" --trial {trial}"
        say(f"{whose} has no note; to write one: ashwood note {experiment}{option} TEXT", err=True)
    else:
        print_markdown(found)
    return None


def note_text(text: str | None, file: Path | None) -> str | None:
    """Return the text of a new note: ``text`` or that of a file, or None if both are None.

    The file ``-`` is standard input.

    Raises:
        AshwoodError: the text is empty, or the file cannot be read.
    """
    given = _read_note(file) if file is not None else None if text is None else from_argument(text)
    if given is not None and not given.strip():
        raise AshwoodError("the text of the note is empty; to remove the note, use --clear")
    return given


def _read_note(file: Path) -> str:
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as opened:
            raw = opened.read(MOST_NOTE_BYTES + 1)
    except OSError as error:
        raise AshwoodError(f"cannot read {file}: {error.strerror}") from None
    if len(raw) > MOST_NOTE_BYTES:
        raise AshwoodError(f"{file} has more than {MOST_NOTE_BYTES:,} bytes, which is too long for a note: shorten it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AshwoodError(f"{file} isn't text in UTF-8, so it can't be a note") from None


def archive_experiment(home: str | None, experiment: int, *, archived: bool, json: bool) -> None:
    """Run ``ashwood archive``."""
    with open_home(home) as opened:
        opened.store.annotate(experiment, archived=archived)
    listed = "ashwood list --all shows it" if archived else "ashwood list shows it again"
    text = f"experiment {experiment} is {'archived' if archived else 'no longer archived'}: {listed}"
    tell(text, json=json, experiment=experiment, archived=archived)


def _labels(labels: Sequence[str]) -> str:
    return f"labels {brief(', '.join(labels), _LONGEST_LABELS)}" if labels else "no labels"


# -- deleting -----------------------------------------------------------------------------------------


def delete_experiments(home: str | None, experiments: Sequence[int], *, yes: bool, json: bool) -> None:
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
            if not sys.stdin.isatty():
                what = f"experiment{'s' * (len(records) > 1)} {', '.join(str(record.id) for record in records)}"
                raise AshwoodError(
                    f"cannot ask whether to delete {what}, because there is no terminal. Nothing was deleted. "
                    "To delete without a question, pass --yes"
                )
            for record in records:
                trials = sum(record.summary.get("trials", {}).values())
                say(
                    f"experiment {record.id} ({brief(record.name, LONGEST_NAME)}), {record.state}, {trials} trials",
                    err=True,
                )
            question = "Delete permanently, with all checkpoints, logs and files of its trials?"
            typer.confirm(question, abort=True, err=True)
        for record in records:
            remove_experiment(opened, record.id)
            if not json:
                say(f"experiment {record.id} ({brief(record.name, LONGEST_NAME)}) is deleted", wrap=True)
    if json:
        print_json({"deleted": [record.id for record in records]})
