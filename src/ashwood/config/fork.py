"""Forks: searches that the dashboard starts from the changed file of another experiment.

A user who may resume an experiment from the dashboard may start a fork of it, so a fork must not be able to do more.
It runs the same training code in the same directory with the same environment.  Only the keys that are listed here may
differ.  A key that a later version adds is refused until it is listed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, Final

import yaml

from ashwood.config.document import Document, parse
from ashwood.config.overrides import with_overrides
from ashwood.config.reader import Loaded, parse_experiment
from ashwood.config.wording import Path, dotted, shorten, shown
from ashwood.errors import ConfigError, Problem
from ashwood.experiment.placeholders import ARGS, PLACEHOLDER
from ashwood.experiment.spec import EntrypointKind, ExperimentSpec
from ashwood.search.space import Categorical, Const

CHANGEABLE: Final = frozenset(
    (
        *("name", "description", "labels", "hyperparameters", "constraints", "searcher", "reproducibility"),
        *("records_per_epoch", "min_validation_period", "min_checkpoint_period", "checkpoint_policy"),
        *("max_restarts", "max_preemptions", "grace_period", "max_silence", "max_log_size", "max_trial_time"),
        *("max_invalid_trials", "max_common_failures", "resources"),
    )
)
"""Keys of a file that a fork may change."""
CHANGEABLE_IN_SEARCHER: Final = frozenset(
    (
        *("name", "metric", "smaller_is_better", "max_length", "time_metric", "max_time", "max_trials", "mode"),
        *("max_concurrent_trials", "sampler", "divisor", "max_rungs", "bracket_rungs", "num_rungs", "stop_once"),
        *("audit", "replicates", "stop_when", "start_with"),
    )
)
"""Keys of the searcher that a fork may change.  The others name checkpoints and files."""
_FILE: Final = "experiment file"
_SAME: Final = ("entrypoint", "workdir", "environment", "data", "ray", "checkpoint_storage", "source_checkpoint")
_LONGEST: Final = 60


def file_of_fork(spec: ExperimentSpec) -> str:
    """Return the text from which forks of an experiment start: its file with the values of the command line.

    It is empty if the experiment was described in Python.
    """
    overrides = spec.provenance.get("overrides", ())
    if not spec.config_text or not overrides:
        return spec.config_text
    return yaml.safe_dump(with_overrides(spec.config_text, overrides), sort_keys=False, allow_unicode=True)


def read_fork(then: ExperimentSpec, text: str, *, default_seed: int) -> tuple[Loaded, list[str]]:
    """Return the experiment of a fork, and the keys that differ from those of the original.

    Args:
        then: the original experiment.
        text: the file of the fork.
        default_seed: its seed if the file gives none.

    Raises:
        ConfigError: the file is wrong, or changes something that a fork may not change.
    """
    if not then.config_text:
        raise ConfigError([Problem("", "the experiment was described in Python, so it has no file to start from")])
    loaded = parse_experiment(text, workdir=FilePath(then.workdir), name=then.name, default_seed=default_seed)
    before, document = parse(file_of_fork(then)).data, parse(text)
    changed = [*_changes(before, document.data)]
    problems = [_refused(path, then, document) for path in changed if not _may_change(path)]
    problems += [_reaches_command(path, value, then, document) for path, value in _new_texts(then, loaded.spec)]
    # The keys above already exclude this.  It is checked again, because a mistake there would run other code.
    for name in () if problems else _SAME:
        if getattr(loaded.spec, name) != getattr(then, name) and not _is_own_storage(name, then):
            problems.append(_refused((name,), then, document))
    if problems:
        raise ConfigError(problems)
    return loaded, [dotted(path) for path in changed]


def new_texts(spec: ExperimentSpec, given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with given values that the command of an experiment would get, by hyperparameter.

    Args:
        spec: the experiment.
        given: values of an added trial, by the dotted names of hyperparameters.
    """
    added = replace(spec, start_with=(given,))
    return {
        name.removeprefix("hyperparameters."): f"{_shown(text)} is a new text, which the command of the entrypoint "
        "would get; to add this trial in spite of that, use ashwood add-trial in a terminal"
        for name, text in _new_texts(spec, added)
    }


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the keys that differ, also those inside the searcher and the hyperparameters."""
    for key in dict.fromkeys((*before, *after)):
        one, other = before.get(key), after.get(key)
        if key in before and key in after and _is_same(one, other):
            continue
        if key in ("searcher", "hyperparameters") and isinstance(one, dict) and isinstance(other, dict):
            inner = dict.fromkeys((*one, *other))
            yield from ((key, each) for each in inner if not _is_same(one.get(each), other.get(each)))
        else:
            yield (key,)


def _is_same(one: Any, other: Any) -> bool:
    # 1, 1.0 and True are equal in Python.  The order of keys has no meaning.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _may_change(path: Path) -> bool:
    if path[0] == "searcher":
        return len(path) > 1 and path[1] in CHANGEABLE_IN_SEARCHER
    return path[0] in CHANGEABLE


def _is_own_storage(name: str, then: ExperimentSpec) -> bool:
    """Return whether a value differs because an experiment gets a checkpoint directory of its own when it is created.

    Its key in the file is the same.
    """
    return name in ("checkpoint_storage", "source_checkpoint") and getattr(then, name) is not None


def _refused(path: Path, then: ExperimentSpec, document: Document) -> Problem:
    return Problem(
        dotted(path), f"a search that is started here must not change it; {_instead(then)}", *_at(path, document)
    )


def _reaches_command(name: str, value: str, then: ExperimentSpec, document: Document) -> Problem:
    what = f"{_shown(value)} is a new text, which the command of the entrypoint would get; {_instead(then)}"
    return Problem(name, what, *_at(tuple(name.split(".")), document))


def _shown(text: str) -> str:
    return shown(shorten(text, _LONGEST))


def _at(path: Path, document: Document) -> tuple[str, int | None]:
    return _FILE, next(
        (document.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in document.lines), None
    )


def _instead(then: ExperimentSpec) -> str:
    command = f"cd {shlex.quote(then.workdir)} && ashwood run FILE"
    return f"to run this file in spite of that, save it and run it in a terminal: {command}"


# -- texts in commands ----------------------------------------------------------------------------------


def _new_texts(then: ExperimentSpec, now: ExperimentSpec) -> Iterator[tuple[str, str]]:
    """Yield texts that a command would get and that the original has not, each with its key.

    Values are quoted for the shell that runs the command.  But the command may pass them on to another shell, or use
    one as the name of a program.
    """
    if then.entrypoint.kind is not EntrypointKind.COMMAND:
        return
    placeholders = frozenset(PLACEHOLDER.findall(then.entrypoint.target))
    known = set(_texts(then, placeholders))
    for name, text in dict.fromkeys(_texts(now, placeholders)):
        if (name, text) not in known:
            yield ("name" if name == "experiment.name" else f"hyperparameters.{name}"), text


def _texts(spec: ExperimentSpec, placeholders: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield the texts that a command with these placeholders can get, each with its hyperparameter."""
    names = {".".join(path): leaf for path, leaf in spec.space.leaves()}
    if "experiment.name" in placeholders and "experiment.name" not in names:
        yield "experiment.name", spec.name
    for name, leaf in names.items():
        for placeholder in placeholders:
            is_inside = name.startswith(f"{placeholder}.")
            if placeholder == ARGS or name == placeholder or is_inside:
                if placeholder == ARGS or is_inside:  # Then the command gets the name, too.
                    yield name, name
                values = leaf.vals if isinstance(leaf, Categorical) else [leaf.val] if isinstance(leaf, Const) else []
                given = [settings[name] for settings in spec.start_with if name in settings]
                yield from ((name, text) for value in (*values, *given) for text in _inside(value))


def _inside(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _inside(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _inside(each)
