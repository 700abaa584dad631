"""The home and the experiment that a command uses if its options and arguments leave them open.

Commands that need an existing home find one in a parent directory, too.  A home can execute code: a snapshot is
unpickled, and `ashwood resume` runs the recorded training code.  Another user who can write to a parent directory could
plant one, as was possible in Git before it had ``safe.directory``.  So the search stays below the user's home directory
and on one file system, and uses only directories and files that belong to the user.
"""

# Imported for every command, so it imports nothing that is slow.

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ashwood.errors import AshwoodError, ConfigError, NotFound, Problem, did_you_mean

if TYPE_CHECKING:
    from ashwood.eventlog.home import Home
    from ashwood.eventlog.port import ExperimentRecord

HOME_NAME = ".ashwood"
_DATABASE = "ashwood.db"
_LONGEST_NAME = 60
_MOST_LISTED = 10
_SEARCHER = re.compile(rb"^searcher\s*:", re.MULTILINE)
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_READ = 1_000_000
_REFERENCES = ("experiment", "experiments", "source", "like")
"""Names of parameters that are experiments."""
_ASSIGNMENTS = ("settings", "hparams")
"""Names of parameters with KEY=VALUE, before which the experiment can be left out."""


LARGEST_ID = 2**63 - 1
"""Largest number that a store can look up: SQLite and PostgreSQL have 64-bit signed integers."""


def whole_number(value: str | int) -> int:
    """Return the number of an experiment, a trial or an event.

    This replaces Typer's own check, whose messages and help show the largest possible number.

    Raises:
        typer.BadParameter: it is not a whole number from 0 to `LARGEST_ID`.
    """
    text = str(value)  # Typer also passes the default.
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter(f"must be a whole number, not {text!r}")
    if len(text) > len(str(LARGEST_ID)) or (number := int(text)) > LARGEST_ID:
        raise typer.BadParameter(f"must be at most {LARGEST_ID}, not {text}")
    return number


class Omitted(StrEnum):
    """The experiment that a command uses if it gets none."""

    NEWEST = "the newest"
    RUNNING = "the one that runs"
    UNFINISHED = "the newest unfinished one"


def fill_in(params: dict[str, Any], *, makes_home: bool, needs_file: bool) -> None:
    """Replace the home, the experiments and the file in the parameters of a command by those that they stand for.

    A line on standard error says what was chosen, except with ``--json``.

    Args:
        params: parameters by name.
        makes_home: whether the command makes a home in the current directory if there is none, as ``run`` does.
        needs_file: whether the command needs an experiment file, unless it uses an experiment.

    Raises:
        AshwoodError: there is no such experiment or file, or more than one.
    """
    note = ""
    chosen: list[str] = []
    has_home = params.get("home") or params.get("directory") or os.environ.get("ASHWOOD_HOME")
    if "home" in params and not has_home and not makes_home and (found := find_home()) is not None:
        params["home"] = str(found)
        note = os.path.relpath(found)
    _insert_omitted(params)
    if needs_file and not any(params.get(name) for name in ("file", "source", "resume_latest")):
        params["file"] = find_file()
        chosen.append(str(params["file"]))
    for name in _REFERENCES:
        value = params.get(name)
        if name == "experiments" and name in params:
            params[name] = _numbers(value or [Omitted.NEWEST], params.get("home"), chosen)
        elif value is not None:
            params[name] = _number(value, params.get("home"), chosen)
    words = [*chosen, *([f"in {note}" if chosen else note] if note else [])]
    if words and not params.get("json"):
        from ashwood.terminal.text import say

        say(f"using {' '.join(words)}", err=True)


# -- homes --------------------------------------------------------------------------------------------


def find_home() -> Path | None:
    """Return the home in the nearest parent directory, or None if there is none or the current directory has one.

    Raises:
        AshwoodError: the nearest one belongs to another user.
    """
    try:
        here, top = Path.cwd(), Path.home().resolve()
    except (OSError, RuntimeError):  # The current directory was deleted, or the user has no home directory.
        return None
    if os.path.lexists(here / HOME_NAME) or top not in here.parents:
        return None
    device = here.stat().st_dev
    for directory in here.parents:
        if directory == top or not _is_own(directory) or directory.stat().st_dev != device:
            return None
        home = directory / HOME_NAME
        if not os.path.lexists(home / _DATABASE):
            continue
        if not (_is_own(home) and _is_own(home / _DATABASE)):
            raise AshwoodError(
                f"{home} is not used, because it belongs to another user, whose files can run code: if you trust it, "
                f"add --home {home}"
            )
        return home
    return None


def note_on_new_home() -> str | None:
    """Return a line for a command that makes a home here although a parent directory has one, or None."""
    if os.environ.get("ASHWOOD_HOME"):
        return None
    with suppress(AshwoodError):
        if (found := find_home()) is not None:
            place = os.path.relpath(found)
            return f"making a new home, {HOME_NAME}; to use that of a parent directory: --home {place}"
    return None


def _is_own(path: Path) -> bool:
    """Return whether a file or directory, and the link that leads to it, belong to this user."""
    with suppress(OSError):
        return path.lstat().st_uid == path.stat().st_uid == os.geteuid()
    return False


# -- files --------------------------------------------------------------------------------------------


def find_file() -> Path:
    """Return the experiment file of the current directory.

    Raises:
        ConfigError: there is none, or more than one.
    """
    if (usual := Path("experiment.yaml")).is_file():
        return usual
    found = sorted(path for pattern in ("*.yaml", "*.yml") for path in Path().glob(pattern) if _has_searcher(path))
    if len(found) == 1:
        return found[0]
    files = ", ".join(map(str, found[:_MOST_LISTED])) + ", …" * (len(found) > _MOST_LISTED)
    what = f"there are {len(found)} here: {files}" if found else "there is none here; ashwood init DIR makes one"
    raise ConfigError([Problem("", f"give an experiment file: {what}", "FILE")])


def _has_searcher(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return _SEARCHER.search(file.read(_MOST_READ)) is not None
    return False


# -- experiments --------------------------------------------------------------------------------------


def reference(value: str) -> str:
    """Return an experiment as the user named it; `fill_in` finds its number."""
    return value


def _insert_omitted(params: dict[str, Any]) -> None:
    """Take the first word of ``set max_trials=200`` for a setting, because the experiment was left out."""
    first = params.get("experiment")
    for name in _ASSIGNMENTS:
        if name in params and not isinstance(first, Omitted) and "=" in str(first):
            params[name] = [str(first), *(params[name] or ())]
            params["experiment"] = Omitted.RUNNING


def _number(value: Any, home: str | None, chosen: list[str]) -> int:
    """Return the number of an experiment, and add it to ``chosen`` unless the user gave this number."""
    if isinstance(value, int) or (not isinstance(value, Omitted) and is_number(value)):
        return whole_number(value)
    from ashwood.engine import open_home
    from ashwood.terminal.text import brief

    with open_home(home) as opened:
        record = _omitted(opened, value) if isinstance(value, Omitted) else _named(opened, value)
    chosen.append(f"experiment {record.id} ({brief(record.name, _LONGEST_NAME)})")
    return record.id


def _numbers(values: Sequence[Any], home: str | None, chosen: list[str]) -> list[int]:
    """Return the different numbers of experiments in words such as ``3``, ``1,2`` and ``digits``."""
    words: list[Any] = []
    for value in values:
        parts = [part.strip() for part in value.split(",")]
        words += parts if all(map(is_number, parts)) else [value]
    return list(dict.fromkeys(_number(word, home, chosen) for word in words))


def is_number(word: object) -> bool:
    """Return whether a word is the number of an experiment, and not its name."""
    return str(word).isascii() and str(word).isdecimal()


def _named(home: Home, name: str) -> ExperimentRecord:
    records = home.store.experiments()
    found = [record for record in records if record.name == name]
    found = [record for record in found if not record.archived] or found
    if not found:
        hint = did_you_mean(name, dict.fromkeys(record.name for record in records))
        raise NotFound(f"there is no experiment {name!r} in {home.name}{hint}; see: ashwood list")
    if len(found) > 1:
        raise AshwoodError(f"{len(found)} experiments are called {name!r}; give the number of one: {_listed(found)}")
    return found[0]


def _omitted(home: Home, omitted: Omitted) -> ExperimentRecord:
    records = [record for record in home.store.experiments() if not record.archived]
    if not records:
        raise NotFound(f"there are no experiments in {home.name}; start one with: ashwood run FILE")
    if omitted is Omitted.NEWEST:
        return records[-1]
    if omitted is Omitted.UNFINISHED:
        left = [record for record in records if not record.state.ended and not home.is_driven(record.id)]
        return [*records, *left][-1]
    running = [record for record in records if record.state.active and home.is_driven(record.id)]
    if not running:
        raise NotFound(f"no experiment is running; give the number or name of one: {_listed(records)}")
    if len(running) > 1:
        raise AshwoodError(f"{len(running)} experiments are running; give the number of one: {_listed(running)}")
    return running[0]


def _listed(records: Sequence[ExperimentRecord]) -> str:
    """Return the numbers and names of the newest experiments."""
    from ashwood.terminal.text import brief

    newest = records[: -_MOST_LISTED - 1 : -1]
    words = [f"{record.id} ({brief(record.name, _LONGEST_NAME)}, {record.state})" for record in newest]
    return ", ".join([*words, *["…"] * (len(records) > len(newest))])


# -- output files -------------------------------------------------------------------------------------


def output_path(home: str | None, experiment: int, out: Path | None, ending: str) -> Path:
    """Return the file or directory that a command writes: ``out``, or NAME-ID and the ending in this directory.

    Raises:
        AshwoodError: ``out`` is None, and the file exists.
    """
    if out is not None:
        return out
    from ashwood.engine import open_home

    with open_home(home) as opened:
        name = opened.store.record(experiment).name
    path = Path(f"{_UNUSUAL.sub('-', name).strip('-.') or 'experiment'}-{experiment}{ending}")
    if path.is_file():
        raise AshwoodError(f"{path} exists; to replace it: --out {path}")
    return path
