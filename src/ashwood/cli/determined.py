"""Commands of Determined AI, and the commands of Ashwood that do the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ashwood.terminal.text import brief

_LONGEST = 60


class Command(NamedTuple):
    """A command of Determined.

    Attributes:
        arguments: names of its arguments, in their order.
        instead: command of Ashwood, in which these names stand for the arguments; or, with ``is_text``, why there is
            none.
        is_text: whether ``instead`` is a sentence.
        note: another sentence, or empty.
    """

    arguments: tuple[str, ...]
    instead: str
    is_text: bool = False
    note: str = ""


def _none(why: str, *arguments: str) -> Command:
    return Command(arguments, why, is_text=True)


_ID, _TRIAL = ("ID",), ("TRIAL",)
NO_SCHEDULER = "Ashwood has no scheduler: each run has the slots that it was started with"
_NUMBERS = "trials are numbered in each experiment, from 0, so the number of the experiment comes first"

EXPERIMENT: Mapping[str, Command] = {
    "create": Command(
        ("FILE", "DIR"), "ashwood run FILE", note="training code is imported from the directory of the file"
    ),
    "list": Command((), "ashwood list", note="--all includes archived ones, --csv and --json are for programs"),
    "describe": Command(_ID, "ashwood describe ID", note="several IDs are separated by commas"),
    "config": Command(_ID, "ashwood config ID"),
    "wait": Command(_ID, "ashwood wait ID"),
    "logs": Command(_ID, "ashwood logs ID"),
    "list-trials": Command(_ID, "ashwood trials ID"),
    "list-checkpoints": Command(_ID, "ashwood checkpoints ID", note="ashwood best ID -n N shows the best ones"),
    "pause": Command(_ID, "ashwood pause ID"),
    "activate": Command(_ID, "ashwood resume ID --background", note="ashwood resume ID does it in the foreground"),
    "cancel": Command(_ID, "ashwood cancel ID"),
    "kill": Command(_ID, "ashwood kill ID"),
    "archive": Command(_ID, "ashwood archive ID"),
    "unarchive": Command(_ID, "ashwood unarchive ID"),
    "delete": Command(_ID, "ashwood delete ID"),
    "download": Command(_ID, "ashwood download ID --out DIR"),
    "download-model-def": _none(
        "Ashwood does not store training code: it records the Git commit, and ashwood run --from ID --checkout runs it",
        "ID",
    ),
    "continue": Command(
        _ID,
        "ashwood resume ID --retry-failed",
        note="ashwood extend ID --max-length N trains an ended experiment longer",
    ),
    "label add": Command(("ID", "LABEL"), "ashwood label ID LABEL"),
    "label remove": Command(("ID", "LABEL"), "ashwood label ID --remove LABEL"),
    "set name": Command(("ID", "NAME"), "ashwood rename ID NAME"),
    "set description": _none("a description is set in the file before the experiment starts", "ID", "TEXT"),
    "set max-slots": Command(
        ("ID", "N"),
        "ashwood set ID max_concurrent_trials=N",
        note="it counts trials; ashwood resume ID --workers N limits the slots of the next run",
    ),
    "set gc-policy": Command(
        _ID, "ashwood gc ID", note="which checkpoints are kept is set in checkpoint_storage of the file"
    ),
    "set weight": _none(NO_SCHEDULER, "ID", "N"),
    "set priority": _none(NO_SCHEDULER, "ID", "N"),
    "set log-retention": _none("logs are kept until the experiment is deleted", "ID"),
    "move": _none("experiments are not grouped into projects: use ashwood label ID LABEL", "ID"),
    "delete-tb-files": _none("Ashwood stores no TensorBoard files", "ID"),
}
"""What follows ``det experiment``."""

TRIAL: Mapping[str, Command] = {
    "describe": Command(_TRIAL, "ashwood trials ID --filter trial=TRIAL", note=_NUMBERS),
    "logs": Command(_TRIAL, "ashwood logs ID TRIAL", note=_NUMBERS),
    "kill": Command(_TRIAL, "ashwood kill ID --trial TRIAL", note=_NUMBERS),
    "download": Command(_TRIAL, "ashwood download ID --trial TRIAL --out DIR", note=_NUMBERS),
    "support-bundle": Command(_TRIAL, "ashwood export ID --out FILE.ashwood --logs", note=_NUMBERS),
    "set log-retention": _none("logs are kept until the experiment is deleted", "TRIAL"),
}
"""What follows ``det trial``."""

CHECKPOINT: Mapping[str, Command] = {
    "list": Command(_ID, "ashwood checkpoints ID"),
    "describe": Command(("UUID",), "ashwood checkpoints ID", note="checkpoints have paths instead of UUIDs"),
    "download": Command(
        ("UUID",), "ashwood download ID --trial TRIAL --out DIR", note="checkpoints have paths instead of UUIDs"
    ),
    "delete": Command(
        ("UUID",), "ashwood gc ID", note="it deletes those that the policy in checkpoint_storage does not keep"
    ),
    "rm": _none("files inside a checkpoint cannot be deleted, because its manifest lists them", "UUID"),
}
"""What follows ``det checkpoint``."""

NOUNS: Mapping[str, Mapping[str, Command]] = {"experiment": EXPERIMENT, "trial": TRIAL, "checkpoint": CHECKPOINT}

_NO_CLUSTER = "Ashwood has no master, agents or pools: trials run on this machine or on a Ray cluster"
_NO_USERS = "Ashwood has no users or roles: a home is a directory or a PostgreSQL database, with its own permissions"
_NO_TASKS = "Ashwood runs experiments only"
OTHERS: Mapping[str, str] = {
    **dict.fromkeys(("agent", "master", "slot", "resource-pool", "resources", "job"), _NO_CLUSTER),
    **dict.fromkeys(("user", "user-group", "auth", "rbac", "token", "sso", "oauth"), _NO_USERS),
    **dict.fromkeys(("command", "cmd", "shell", "notebook", "task", "template", "config-policies"), _NO_TASKS),
    **dict.fromkeys(("workspace", "project"), "experiments are not grouped into projects: use ashwood label ID LABEL"),
    "deploy": "there is nothing to deploy: ashwood run FILE needs only the Python package",
    "model": "Ashwood has no model registry: ashwood download ID --out DIR copies the best checkpoint",
    "tensorboard": "ashwood ui shows experiments in a browser",
    "version": "use: ashwood --version",
}
"""Other commands of Determined, with why Ashwood has none or what to use."""

_ALIASES = {
    "e": "experiment",
    "exp": "experiment",
    "t": "trial",
    "c": "checkpoint",
    "a": "agent",
    "s": "slot",
    "rp": "resource-pool",
    "j": "job",
    "u": "user",
    "w": "workspace",
    "p": "project",
    "m": "model",
}
_VERBS = {"ls": "list", "lt": "list-trials", "lc": "list-checkpoints", "unpause": "activate"}
_WITH_VALUE = {"--config", "--config-file", "--home", "--include", "-i", "--master", "-m", "--template", "--user", "-u"}
_WITH_VALUE |= {"--head", "--limit", "--offset", "--output-dir", "-o", "--project_id", "--tail"}
"""Options after which a word is a value.  Other options of Determined are taken for flags."""
_VERBS_OF_EXPERIMENTS = ("create", "list-trials", "lt", "list-checkpoints", "lc", "ls", "unpause", "continue", "move")


def advice_for(arguments: Sequence[str]) -> str | None:
    """Return what to use instead of a command line of Determined, or None if it is not one.

    Args:
        arguments: words after ``ashwood``, of which the first is not a command of Ashwood.
    """
    if not arguments:
        return None
    first, *rest = arguments
    noun = _ALIASES.get(first, first)
    if first == "det":
        return f"leave out det: {_of(rest) or 'ashwood --help lists all commands'}" if rest else None
    if noun in NOUNS:
        return _of_noun(noun, rest)
    if first in _VERBS_OF_EXPERIMENTS:
        return _of_noun("experiment", arguments)
    if (why := OTHERS.get(noun)) is not None:
        return f"{noun} is a command of Determined, not of Ashwood; {why}"
    return None


def _of(arguments: Sequence[str]) -> str | None:
    return advice_for(arguments) or (f"use: ashwood {brief(' '.join(arguments), _LONGEST)}")


def _of_noun(noun: str, rest: Sequence[str]) -> str:
    """Return the advice about ``NOUN VERB …``."""
    commands, words, settings = NOUNS[noun], *_parted(rest)
    verb = _VERBS.get(words[0], words[0]) if words else ""
    given = words[1:]
    if given and f"{verb} {given[0]}" in commands:
        verb, given = f"{verb} {given[0]}", given[1:]
    found = commands.get(verb)
    if found is None:
        known = ", ".join(dict.fromkeys(name.split(" ")[0] for name in commands))
        no_noun = f"commands of Ashwood have no {noun} before them, as in: ashwood list"
        return f"{no_noun}; replacements are known for {known}"
    return f"{noun} {verb} is a command of Determined; {_advice(found, given, settings if verb == 'create' else ())}"


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that are neither options nor their values, and the values of ``--config``."""
    others, settings, left = [], [], iter(words)
    for word in left:
        if not word.startswith("-"):
            others.append(word)
            continue
        option, equals, value = word.partition("=")
        if option in _WITH_VALUE and not equals:
            value = next(left, "")
        if option == "--config" and value:
            settings.append(value)
    return others, settings


def _advice(command: Command, given: Sequence[str], settings: Sequence[str]) -> str:
    if command.is_text:
        return command.instead
    values = dict(zip(command.arguments, given, strict=False))
    words = [_filled(word, values) for word in command.instead.split(" ")]
    words += [f"--set {brief(setting, _LONGEST)}" for setting in settings]
    note = f" ({command.note})" if command.note else ""
    return f"use: {' '.join(words)}{note}"


def _filled(word: str, values: Mapping[str, str]) -> str:
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{brief(values[value], _LONGEST)}" if value in values else word
