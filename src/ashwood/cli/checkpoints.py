"""``ashwood checkpoints``, ``download`` and ``gc``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any

from ashwood.backends.local.worker_lock import clear_former_workers
from ashwood.checkpoints import MANIFEST, Leftover, Storage
from ashwood.checkpoints.directory import directory_name, trial_of_directory
from ashwood.checkpoints.links import copy_contents
from ashwood.checkpoints.trees import atomic_directory, remove_tree, size_of_tree
from ashwood.cli.where import output_path
from ashwood.engine import Home, open_home
from ashwood.engine.background import while_beating
from ashwood.engine.recovery import unrecorded
from ashwood.errors import AshwoodError, CheckpointError, ExperimentBusy, NotFound, StorageUnreachable
from ashwood.eventlog.fold_cache import fold, read_checkpoints, read_progress
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import CheckpointSaved
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec
from ashwood.terminal.messages import named_trials, warn_of_damage
from ashwood.terminal.output import format_time, near, print_json, print_table, writing
from ashwood.terminal.text import say
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.progress import Progress
from ashwood.views.trials import SavedCheckpoint, TrialRow
from ashwood.views.wording import format_length, format_value

_FEW = 20
"""Number of checkpoints that a terminal shows by default."""


def show_checkpoints(home: str | None, experiment: ExperimentId, *, limit: int | None, whole: bool, json: bool) -> None:
    """Run ``ashwood checkpoints``; on a terminal it shows a few checkpoints, the best first, unless ``whole``."""
    fits = sys.stdout.isatty() and not whole
    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
        storage = opened.storage(experiment, spec)
        warn_of_damage(opened, experiment)
        table = read_checkpoints(opened, experiment)
    stored = storage.complete()
    # A directory that another experiment saved at the path of a checkpoint is not that checkpoint.
    there = {storage.locate(each.name): each.size for each in stored if each.experiment in ("", spec.identity)}
    foreign = [each.name for each in stored if each.experiment not in ("", spec.identity)]
    if foreign:
        say(
            f"warning: experiment {experiment} is damaged: {len(foreign)} of the checkpoints in its directory belong "
            f"to another experiment, such as {foreign[0]}; see: ashwood verify {experiment}",
            err=True,
        )
    reasons = table.kept_as()
    rows = sorted(table.rows.values(), key=lambda row: (row.trial, row.length, row.attempt))
    if fits:
        sign = 1 if spec.smaller_is_better else -1
        rows.sort(key=lambda row: inf if row.metric is None else sign * row.metric)
    places = [storage.locate(row.name) for row in rows]
    if json:
        print_json(
            [
                {
                    "trial": row.trial,
                    "length": row.length,
                    "attempt": row.attempt,
                    "metric": row.metric,
                    "size": there.get(place),
                    "saved_at": row.saved_at,
                    "kept_as": reasons[row.name],
                    "name": row.name,
                    "place": place,
                }
                for row, place in zip(rows, places, strict=True)
            ]
        )
        return
    if not rows:
        say(f"Experiment {experiment} has no checkpoints.")
        return
    most = (_FEW if fits else 0) if limit is None else limit
    columns = ("trial", "length", spec.metric, "size", "path", "kept as", "saved")
    cells = [
        (
            row.trial,
            row.length,
            row.metric,
            _size_of(place, there),
            row.name if fits else place,
            ", ".join(reasons[row.name]),
            format_time(row.saved_at),
        )
        for row, place in islice(zip(rows, places, strict=True), most or None)
    ]
    right = ("trial", "length", spec.metric, "size")
    narrow = print_table(columns, cells, right=right, least=columns.index("path") + 1 if fits else None)
    more = [f"{len(rows) - len(cells):,} more checkpoints"] if limit is None and len(rows) > len(cells) else []
    more += [format_length(narrow, "more columns")] if narrow else []
    if more:
        say(f"{' and '.join(more)}: --all")
    size = format_size(sum(there.get(place, 0) for place in places))
    bound = "" if table.max_size is None else f" of at most {format_size(table.max_size)} (max_size)"
    directory = f", in {near(storage.locate('').rstrip('/'))}" if fits else ""
    say(f"{format_length(len(rows), 'checkpoints')}, {size}{bound}{directory}", wrap=True)


def _size_of(place: str, there: dict[str, int]) -> str:
    if place in there:
        return format_size(there[place])
    if not Path(place).is_dir():
        return "missing"
    # Version 1 wrote no manifests, so a directory without one has an unknown size.
    return "foreign" if (Path(place) / MANIFEST).exists() else "–"


def download(
    home: str | None,
    experiment: ExperimentId,
    *,
    best: int,
    trial: int | None,
    out: Path | None,
    directories: bool,
    json: bool,
) -> None:
    """Run ``ashwood download``."""
    out = output_path(home, experiment, out, "")
    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
        storage = opened.storage(experiment, spec)
        warn_of_damage(opened, experiment)
        progress = read_progress(opened, experiment)
        trials = progress.trials
        folder = opened.trial_directories(experiment)
    if trial is not None and trial not in trials.rows:
        raise NotFound(f"experiment {experiment} has no trial {trial}")
    chosen = [trial] if trial is not None else [row.id for row in progress.best_trials(best)]
    found = {number: saved for number in chosen if (saved := trials.rows[number].best_checkpoint) is not None}
    own = {number: folder / _directory_of(trials.rows[number]) for number in chosen} if directories else {}
    copied = {number: directory for number, directory in own.items() if directory.is_dir()}
    if not found and not copied:
        raise NotFound(f"experiment {experiment} has no checkpoint of {_of(chosen)}; see: ashwood checkpoints")
    places = [out / f"trial-{number}" for number in found] + [out / f"trial-{number}-directory" for number in copied]
    taken = [str(place) for place in places if place.exists()]
    if taken:
        raise AshwoodError(f"{', '.join(taken)} already exists, and nothing is overwritten: choose another --out")
    damaged = _copy_all(storage, found, spec, out, json=json)
    for number, directory in copied.items():
        place = out / f"trial-{number}-directory"
        with writing(place), atomic_directory(place) as partial:
            shutil.copytree(directory, partial, symlinks=True, ignore=_special, dirs_exist_ok=True)
        if not json:
            say(f"directory of trial {number}: {place}")
    for number in own.keys() - copied.keys():
        say(f"trial {number} has no directory in {folder}", err=True)
    for number in chosen:
        if number not in found:
            say(f"trial {number} has no checkpoint", err=True)
    if damaged:
        raise CheckpointError(
            f"{len(damaged)} of {len(found)} checkpoints are damaged or missing and were skipped: those of "
            f"{named_trials(damaged)}; to list all checkpoints: ashwood checkpoints {experiment}"
        )


def _copy_all(
    storage: Storage, checkpoints: Mapping[int, SavedCheckpoint], spec: ExperimentSpec, out: Path, *, json: bool
) -> list[int]:
    """Copy the checkpoints of trials, and return the trials with a damaged one.

    Raises:
        CheckpointError: the only checkpoint is damaged.
        StorageUnreachable: the storage cannot be reached.
    """
    damaged, copied = list[int](), list[dict[str, Any]]()
    for trial, checkpoint in checkpoints.items():
        place = out / f"trial-{trial}"
        try:
            _copy(storage, checkpoint.path, place)
        except StorageUnreachable:
            raise  # The other checkpoints are in the same storage.
        except CheckpointError as error:
            if len(checkpoints) == 1:
                raise
            damaged.append(trial)
            say(f"trial {trial} is skipped: {error}", err=True)
            continue
        copied.append({"trial": trial, "length": checkpoint.length, "metric": checkpoint.metric, "path": str(place)})
        metric = "" if checkpoint.metric is None else f", {spec.metric} {format_value(checkpoint.metric)}"
        if not json:
            say(f"trial {trial} at {format_length(checkpoint.length, spec.unit)}{metric}: {place}", wrap=True)
    if json:
        print_json(copied)
    return damaged


def _of(trials: Sequence[int]) -> str:
    return f"trial {', '.join(map(str, trials))}" if trials else "any trial that reported a finite metric"


def _copy(storage: Storage, name: str, place: Path) -> None:
    with writing(place), atomic_directory(place) as partial, storage.fetch(name) as directory:
        copy_contents(directory, partial, skip=MANIFEST)


def _directory_of(row: TrialRow) -> str:
    return directory_name(row.id, row.hparams, row.seed)


def _special(folder: str, names: list[str]) -> set[str]:
    """Return the names of pipes, sockets and devices, which cannot be copied."""
    modes = {name: Path(folder, name).lstat().st_mode for name in names}
    return {name for name, mode in modes.items() if not (S_ISREG(mode) or S_ISDIR(mode) or S_ISLNK(mode))}


def collect_garbage(home: str | None, experiment: ExperimentId, *, dry_run: bool, json: bool) -> None:
    """Run ``ashwood gc``."""
    with open_home(home) as opened:
        record, spec = opened.store.record(experiment), opened.store.spec(experiment)
        if opened.is_driven(experiment):
            raise ExperimentBusy(f"experiment {experiment} is running: its driver deletes unneeded checkpoints itself")
        if opened.is_interrupted(record):
            raise ExperimentBusy(
                f"experiment {experiment} was interrupted, and its latest checkpoints are not in its event log yet. "
                f"First resume it: ashwood resume {experiment}"
            )
        storage = opened.storage(experiment, spec)
        # The lease keeps drivers away.  Otherwise a checkpoint that is being saved would look like a leftover.
        with opened.lease(experiment) as lease:
            clear_former_workers(opened.directory(experiment) / "workers.lock")
            warn_of_damage(opened, experiment)
            progress = read_progress(opened, experiment, ["checkpoints"])
            table = progress.checkpoints
            # The next driver records the checkpoints that trials saved after the last driver had died.
            unrecorded_names = set() if record.state.ended else _unrecorded(opened, experiment, storage, lease.beat)
            found = while_beating(lambda: list(_garbage(storage, table)), lease.beat)
            garbage = [item for item in found if item.name not in unrecorded_names]
            for item in garbage:
                lease.beat()
                if not dry_run:
                    while_beating(partial(storage.delete, item.name), lease.beat)
                if not json:
                    say(f"{format_size(item.size):>9}  {storage.locate(item.name)}")
            _abort_uploads(storage, lease.beat, dry_run, err=json)
            unneeded = list(_unneeded_directories(opened.trial_directories(experiment), progress, record.state))
            for directory in unneeded:
                size = while_beating(partial(size_of_tree, directory), lease.beat)
                if not dry_run:
                    while_beating(partial(_remove_directory, directory), lease.beat)
                if not json:
                    say(f"{format_size(size):>9}  {directory}")
    if json:
        deleted = [*(storage.locate(item.name) for item in garbage), *map(str, unneeded)]
        print_json({"deleted": deleted, "dry_run": dry_run, "kept": len(table.rows)})
        return
    total = format_size(sum(item.size for item in garbage))
    verb = "Would delete" if dry_run else "Deleted"
    noun = "checkpoint or leftover of one" if len(garbage) == 1 else "checkpoints or leftovers of some"
    result = f"{verb} {len(garbage)} {noun}, {total}" if garbage else "Nothing to delete"
    say(f"{result}; {format_length(len(table.rows), 'checkpoints')} kept.", wrap=True)
    if unneeded:
        noun = "directory of a trial that has ended" if len(unneeded) == 1 else "directories of trials that have ended"
        say(f"{verb} {len(unneeded)} {noun}.", wrap=True)


def _unneeded_directories(top: Path, progress: Progress, state: ExperimentState) -> Iterator[Path]:
    """Yield the directories of trials, except those of trials that may continue."""
    if top.is_symlink() or not top.is_dir():
        return
    rows = () if state.ended else progress.trials.rows.values()
    may_continue = {TrialState.RUNNING, TrialState.PAUSED}
    if state is ExperimentState.STOPPED:  # Trials that ended only with the experiment continue when it is resumed.
        may_continue.add(TrialState.STOPPED)
    needed = {_directory_of(row) for row in rows if row.state in may_continue}
    for path in sorted(top.iterdir()):
        if trial_of_directory(path.name) is not None and path.name not in needed:
            yield path


def _remove_directory(directory: Path) -> None:
    try:
        remove_tree(directory.parent, directory.name)
    except OSError as error:
        raise AshwoodError(f"cannot delete {directory}: {error.filename or directory}: {error.strerror}") from error


def _abort_uploads(storage: Storage, beat: Callable[[], None], dry_run: bool, *, err: bool) -> None:
    try:
        uploads = while_beating(partial(storage.abort_uploads, dry_run=dry_run), beat)
    except StorageUnreachable as error:
        say(f"Unfinished uploads were not checked: {error}", err=True)
        return
    if uploads:
        say(
            f"{'Would abort' if dry_run else 'Aborted'} {uploads} unfinished upload{'' if uploads == 1 else 's'}.",
            err=err,
        )


def _unrecorded(home: Home, experiment: ExperimentId, storage: Storage, beat: Callable[[], None]) -> set[str]:
    """Return the names of checkpoints that the next driver will add to the event log."""
    folded = fold(home.store.spec(experiment), home.store.log(experiment)).experiment
    events = unrecorded(folded, storage, folded.unsettled(), beat)
    return {event.path for event in events if isinstance(event, CheckpointSaved)}


def _garbage(storage: Storage, table: CheckpointTable) -> Iterator[Leftover]:
    """Yield the checkpoints and leftovers that are not in the table of checkpoints."""
    needed = {storage.locate(name) for name in table.rows}
    for stored in storage.complete():
        if storage.locate(stored.name) not in needed:
            yield Leftover(stored.name, stored.size)
    for leftover in storage.leftovers():
        if storage.locate(leftover.name) not in needed:
            yield leftover
