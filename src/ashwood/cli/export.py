"""``ashwood export``: trials and reports as tables for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ashwood.cli.output import to_json
from ashwood.cli.text import say
from ashwood.engine import Home, open_home
from ashwood.errors import AshwoodError
from ashwood.eventlog.fold_cache import read_progress
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import ValidationReported
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.table import Record, trial_records
from ashwood.views.trials import TrialTable

if TYPE_CHECKING:
    import pandas as pd

WHOLE = ".ashwood"
"""Suffix of a file with a whole experiment."""
_REPORT_COLUMNS = frozenset(("trial", "length", "attempt", "at"))


def read_trials(home: Home, experiment: ExperimentId) -> tuple[ExperimentSpec, TrialTable]:
    """Return the spec and the trials of an experiment."""
    warn_of_damage(home, experiment)
    progress = read_progress(home, experiment)
    return progress.spec, progress.trials


def warn_of_damage(home: Home, experiment: ExperimentId) -> None:
    """Print a warning if an experiment is damaged, so that a command shows only a part of it."""
    if (damage := home.damage(home.store.record(experiment))) is not None:
        say(f"warning: experiment {experiment} is damaged: {damage}", err=True)


def report_records(entries: Iterable[Entry]) -> Iterator[Record]:
    """Yield one flat record per report, in order of arrival.

    A metric with the name of another column gets the column ``metrics.NAME``.
    """
    for at, event, _ in entries:
        if isinstance(event, ValidationReported):
            yield {
                "trial": event.trial,
                "length": event.length,
                "attempt": event.attempt,
                "at": at,
                **{_report_column(name): value for name, value in event.metrics.items()},
            }


def _report_column(metric: str) -> str:
    is_taken = metric in _REPORT_COLUMNS or metric.startswith("metrics.")
    return f"metrics.{metric}" if is_taken else metric


def make_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return a data frame with one row per record.

    Raises:
        AshwoodError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise AshwoodError("pandas is not installed: pip install 'ashwood[pandas]'") from error
    return pd.DataFrame.from_records(list(records))


def export_experiment(
    home: str | None,
    experiment: int,
    out: Path,
    *,
    metrics: bool,
    checkpoints: bool,
    logs: bool,
    directories: bool,
    until: int | None,
) -> None:
    """Run ``ashwood export``; the suffix of the file sets the format."""
    whole = out.suffix.lower() == WHOLE
    options = {
        "--metrics": metrics,
        "--checkpoints": checkpoints,
        "--logs": logs,
        "--directories": directories,
        "--until": until is not None,
    }
    for option in [option for option, given in options.items() if given and (option == "--metrics") is whole]:
        fit = "a table: .csv, .parquet or .json" if whole else f"a whole experiment: {WHOLE}"
        raise AshwoodError(f"{option} is for {fit}, not for {out.name}")
    if whole:
        from ashwood.cli.bundle import export_whole

        export_whole(home, experiment, out, checkpoints=checkpoints, logs=logs, directories=directories, until=until)
    else:
        _export_table(home, experiment, out, metrics=metrics)


def _export_table(home: str | None, experiment: int, out: Path, *, metrics: bool) -> None:
    write = {".csv": _write_csv, ".parquet": _write_parquet, ".json": _write_json}.get(out.suffix.lower())
    if write is None:
        raise AshwoodError(
            f"--out {out}: the file must end in .csv, .parquet or .json, or in {WHOLE} for the whole experiment"
        )
    with open_home(home) as opened:
        if metrics:
            records = list(report_records(entry for _, entry in opened.store.log(experiment).read()))
        else:
            spec, table = read_trials(opened, experiment)
            storage = opened.storage(experiment, spec)
            records = list(trial_records(table, spec.metric, storage.locate))
    try:
        write(records, out)
    except OSError as error:
        raise AshwoodError(f"cannot write {out}: {error.strerror}") from error
    say(f"Wrote {len(records)} {'reports' if metrics else 'trials'} to {out}.")


def _write_csv(records: list[Record], out: Path) -> None:
    columns = list(dict.fromkeys(key for record in records for key in record))
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(records)


def _write_json(records: list[Record], out: Path) -> None:
    out.write_text(json.dumps(to_json(records), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_parquet(records: list[Record], out: Path) -> None:
    frame = make_frame(records)
    # A Parquet column has one type, but a hyperparameter can be a number in one trial and a string in another.
    # Such a column is written as strings.
    mixed = [c for c in frame.columns if frame[c].dtype == object and frame[c].map(type).nunique() > 1]
    for column in mixed:
        frame[column] = frame[column].map(lambda value: None if value is None else str(value))
    try:
        frame.to_parquet(out)
    except ImportError as error:
        raise AshwoodError("Parquet needs pyarrow: pip install 'ashwood[pandas]'") from error
