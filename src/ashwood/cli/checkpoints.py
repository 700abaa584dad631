"""``ashwood checkpoints``, ``download`` and ``gc``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ashwood.backends.local import clear_former_workers
from ashwood.cli.export import warn_of_damage
from ashwood.cli.output import format_size, format_time, print_json, print_table
from ashwood.cli.text import say
from ashwood.engine import Home, open_home
from ashwood.engine.background import while_beating
from ashwood.engine.recovery import unrecorded
from ashwood.engine.snapshot import fold, read_checkpoints, read_progress
from ashwood.errors import AshwoodError, ExperimentBusy, NotFound, StorageUnreachable
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import CheckpointSaved
from ashwood.trial.storage import MANIFEST, Leftover, Storage
from ashwood.trial.storage.links import copy_contents
from ashwood.trial.storage.trees import remove_tree
from ashwood.views.checkpoints import CheckpointRow, CheckpointTable


def show_checkpoints(home: str | None, experiment: ExperimentId, *, json: bool) -> None:
    """``ashwood checkpoints``."""
    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
        storage = opened.storage(experiment, spec)
        warn_of_damage(opened, experiment)
        table = read_checkpoints(opened, experiment)
    stored = storage.complete()
    # What another experiment saved is in the place of a checkpoint, and is not the checkpoint.
    there = {storage.locate(each.name): each.size for each in stored if each.experiment in ("", spec.identity)}
    foreign = [each.name for each in stored if each.experiment not in ("", spec.identity)]
    if foreign:
        say(
            f"warning: experiment {experiment} is damaged: {len(foreign)} of the checkpoints in its directory are of "
            f"another experiment, such as {foreign[0]}; see: ashwood verify {experiment}",
            err=True,
        )
    reasons = table.kept_as()
    rows = sorted(table.rows.values(), key=lambda row: (row.trial, row.length, row.attempt))
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
    columns = ("trial", "length", spec.metric, "size", "saved", "kept as", "where")
    cells = [
        (
            row.trial,
            row.length,
            row.metric,
            _size_of(place, there),
            format_time(row.saved_at),
            ", ".join(reasons[row.name]),
            place,
        )
        for row, place in zip(rows, places, strict=True)
    ]
    print_table(columns, cells, right=("trial", "length", spec.metric, "size"))


def _size_of(place: str, there: dict[str, int]) -> str:
    if place in there:
        return format_size(there[place])
    if not Path(place).is_dir():
        return "missing"
    # Version 1 wrote no manifests.
    return "foreign" if (Path(place) / MANIFEST).exists() else "–"


def download(home: str | None, experiment: ExperimentId, *, best: int, trial: int | None, out: Path) -> None:
    """``ashwood download``."""
    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
        storage = opened.storage(experiment, spec)
        warn_of_damage(opened, experiment)
        progress = read_progress(opened, experiment, ["checkpoints"])
    trials, table = progress.trials, progress.checkpoints
    if trial is not None and trial not in trials.rows:
        raise NotFound(f"experiment {experiment} has no trial {trial}")
    wanted = [trial] if trial is not None else [row.id for row in trials.best(best)]
    rows = [row for number in wanted for row in table.of(number)[:1]]
    if not rows:
        raise NotFound(f"experiment {experiment} has no checkpoint of {_of(wanted)}; see: ashwood checkpoints")
    taken = [str(place) for row in rows if (place := out / f"trial-{row.trial}").exists()]
    if taken:
        raise AshwoodError(f"{', '.join(taken)} is there already, and nothing is overwritten: choose another --out")
    for row in rows:
        place = out / f"trial-{row.trial}"
        _copy(storage, row, place)
        say(f"trial {row.trial} at length {row.length}: {place}")
    for number in wanted:
        if not any(row.trial == number for row in rows):
            say(f"trial {number} has no checkpoint", err=True)


def _of(trials: Sequence[int]) -> str:
    return f"trial {', '.join(map(str, trials))}" if trials else "any trial that reported a number"


def _copy(storage: Storage, row: CheckpointRow, place: Path) -> None:
    partial = place.with_name(f".{place.name}.partial")
    try:
        with storage.fetch(row.name) as directory:
            remove_tree(place.parent, partial.name, ignore_errors=True)
            copy_contents(directory, partial, skip=MANIFEST)
        partial.rename(place)
    except OSError as error:
        raise AshwoodError(f"can't write {place}: {error.strerror or error}") from error
    finally:
        remove_tree(place.parent, partial.name, ignore_errors=True)


def collect_garbage(home: str | None, experiment: ExperimentId, *, dry_run: bool) -> None:
    """``ashwood gc``."""
    with open_home(home) as opened:
        record, spec = opened.store.record(experiment), opened.store.spec(experiment)
        if opened.is_driven(experiment):
            raise ExperimentBusy(f"experiment {experiment} is running, and its driver deletes what nobody needs itself")
        if opened.is_interrupted(record):
            raise ExperimentBusy(
                f"experiment {experiment} was interrupted, and what its trials saved last isn't in its log yet; go on "
                f"with it first: ashwood resume {experiment}"
            )
        storage = opened.storage(experiment, spec)
        # Nobody may begin to drive it now: a process that saves would look like one that died.
        with opened.lease(experiment) as lease:
            clear_former_workers(opened.directory(experiment) / "workers.lock")
            warn_of_damage(opened, experiment)
            table = read_checkpoints(opened, experiment)
            # What a process saved after its driver had died is for the next driver to take up.
            unheard = set() if record.state.ended else _unheard(opened, experiment, storage, lease.beat)
            found = while_beating(lambda: list(_garbage(storage, table)), lease.beat)
            garbage = [item for item in found if item.name not in unheard]
            for item in garbage:
                lease.beat()
                if not dry_run:
                    while_beating(partial(storage.delete, item.name), lease.beat)
                say(f"{format_size(item.size):>9}  {storage.locate(item.name)}")
            _abort_uploads(storage, lease.beat, dry_run)
    total = format_size(sum(item.size for item in garbage))
    verb = "Would delete" if dry_run else "Deleted"
    noun = "checkpoint or remains of one" if len(garbage) == 1 else "checkpoints and remains of some"
    say(f"{verb} {len(garbage)} {noun}, {total}; {len(table.rows)} are kept.")


def _abort_uploads(storage: Storage, beat: Callable[[], None], dry_run: bool) -> None:
    try:
        uploads = while_beating(partial(storage.abort_uploads, dry_run=dry_run), beat)
    except StorageUnreachable as error:
        say(f"Unfinished uploads were not looked for: {error}", err=True)
        return
    if uploads:
        say(f"{'Would abort' if dry_run else 'Aborted'} {uploads} unfinished upload{'' if uploads == 1 else 's'}.")


def _unheard(home: Home, experiment: ExperimentId, storage: Storage, beat: Callable[[], None]) -> set[str]:
    folded = fold(home.store.spec(experiment), home.store.log(experiment)).experiment
    events = unrecorded(folded, storage, folded.unsettled(), beat)
    return {event.path for event in events if isinstance(event, CheckpointSaved)}


def _garbage(storage: Storage, table: CheckpointTable) -> Iterator[Leftover]:
    """What the log doesn't need."""
    needed = {storage.locate(name) for name in table.rows}
    for stored in storage.complete():
        if storage.locate(stored.name) not in needed:
            yield Leftover(stored.name, stored.size)
    for leftover in storage.leftovers():
        if storage.locate(leftover.name) not in needed:
            yield leftover
