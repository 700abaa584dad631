"""``ashwood export`` and ``import``: tables for other programs, and files with whole experiments."""

from __future__ import annotations

import csv
from dataclasses import fields
from json import dumps
from pathlib import Path

from ashwood.api.tables import make_frame, read_trials, report_records
from ashwood.cli.options import ExportOptions
from ashwood.cli.where import output_path
from ashwood.engine import open_home
from ashwood.engine.bundle import export_bundle, import_bundle
from ashwood.errors import AshwoodError
from ashwood.terminal.output import tell, writing, wrote_or_replaced
from ashwood.terminal.text import say
from ashwood.views.table import Record, csv_record, to_json, trial_columns, trial_records
from ashwood.views.wording import format_length

WHOLE = ".ashwood"
"""Suffix of a file with a whole experiment."""


def export_experiment(
    home: str | None, experiment: int, out: Path | None, options: ExportOptions, *, json: bool
) -> None:
    """Run ``ashwood export``; the suffix of the file sets the format."""
    is_whole = options.checkpoints or options.logs or options.directories or options.until is not None
    out = output_path(home, experiment, out, WHOLE if is_whole else ".csv")
    whole = out.suffix.lower() == WHOLE
    for field in fields(options):
        if getattr(options, field.name) not in (False, None) and (field.name == "metrics") is whole:
            fit = "a table: .csv, .parquet or .json" if whole else f"a whole experiment: {WHOLE}"
            raise AshwoodError(f"--{field.name} is for {fit}, not for {out.name}")
    if whole:
        _export_whole(home, experiment, out, options, json=json)
    else:
        _export_table(home, experiment, out, metrics=options.metrics, json=json)


def _export_table(home: str | None, experiment: int, out: Path, *, metrics: bool, json: bool) -> None:
    write = {".csv": _write_csv, ".parquet": _write_parquet, ".json": _write_json}.get(out.suffix.lower())
    if write is None:
        raise AshwoodError(
            f"--out {out}: the file must end in .csv, .parquet or .json, or in {WHOLE} for the whole experiment"
        )
    with open_home(home) as opened:
        if metrics:
            records = list(report_records(entry for _, entry in opened.store.log(experiment).read()))
            columns = list(dict.fromkeys(key for record in records for key in record))
        else:
            spec, table = read_trials(opened, experiment)
            storage = opened.storage(experiment, spec)
            records = list(trial_records(table, spec, storage.locate))
            columns = trial_columns(records, spec.space)
    wrote = wrote_or_replaced(out)
    with writing(out):
        write(records, columns, out)
    written = format_length(len(records), "reports" if metrics else "trials")
    text = f"Wrote {written} to {out}." if wrote == "Wrote" else f"Replaced {out}: {written}."
    tell(text, json=json, path=str(out), rows=len(records))


def _export_whole(home: str | None, experiment: int, out: Path, options: ExportOptions, *, json: bool) -> None:
    """Write a file with the whole experiment."""
    chosen = {name: getattr(options, name) for name in ("checkpoints", "logs", "directories")}
    # A user may pass ``until`` because the home is damaged, and the entries up to there may be all that can be read.
    with open_home(home, allow_damage=options.until is not None) as opened:
        if options.until is None:
            opened.log(experiment).check()
        exported = export_bundle(opened, experiment, out, until=options.until, **chosen)
        has_directories = any(opened.trial_directories(experiment).glob("*/*"))
    for why in exported.left_out:
        say(f"warning: left out: {why}", err=True)
    directories = f"{exported.directories} director{'y' if exported.directories == 1 else 'ies'} of trials"
    parts = {
        "checkpoints": format_length(exported.checkpoints, "checkpoints"),
        "logs": format_length(exported.logs, "logs"),
        "directories": directories,
    }
    contents = [format_length(exported.entries, "events"), *(part for name, part in parts.items() if chosen[name])]
    text = f"Wrote experiment {experiment} ({', '.join(contents)}) to {out}."
    counts = {name: getattr(exported, name) for name in parts}
    tell(text, json=json, path=str(out), experiment=experiment, entries=exported.entries, **counts)
    absent = [name for name in parts if not chosen[name] and (name != "directories" or has_directories)]
    if absent:
        missing = " ".join(f"--{name}" for name in absent)
        say(f"The file has no {' and no '.join(absent)}: add {missing} to include them.", err=True)


def _write_csv(records: list[Record], columns: list[str], out: Path) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(map(csv_record, records))


def _write_json(records: list[Record], _columns: list[str], out: Path) -> None:
    out.write_text(dumps(to_json(records), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_parquet(records: list[Record], columns: list[str], out: Path) -> None:
    frame = make_frame(map(csv_record, records), columns)
    # A Parquet column has one type, but a hyperparameter can be a number in one trial and a string in another.
    # Such a column is written as strings.
    mixed = [c for c in frame.columns if frame[c].dtype == object and frame[c].dropna().map(type).nunique() > 1]
    for column in mixed:
        frame[column] = frame[column].map(str, na_action="ignore")
    try:
        frame.to_parquet(out)
    except ImportError as error:
        raise AshwoodError("Parquet needs pyarrow: pip install 'ashwood[pandas]'") from error


def import_experiment(home: str | None, file: Path, *, workdir: Path | None, json: bool) -> None:
    """Run ``ashwood import``."""
    with open_home(home, create=True) as opened:
        imported = import_bundle(opened, file, workdir=workdir)
        record = opened.store.record(imported.experiment)
        unfinished = opened.is_interrupted(record) or not record.state.ended
    tell(
        f"{file} is experiment {record.id} here ({record.name}), {format_length(imported.entries, 'events')}, "
        f"{'not finished' if unfinished else record.state}",
        json=json,
        experiment=record.id,
        name=record.name,
        state=record.state,
        entries=imported.entries,
    )
    if unfinished and not Path(imported.spec.workdir).is_dir():
        say(
            f"its training code was in {imported.spec.workdir}, which does not exist here: to resume the experiment, "
            "import it with --workdir DIR",
            err=True,
        )
    elif unfinished and not json:
        say(f"To continue: ashwood resume {record.id}")
    if unfinished and imported.entries and not imported.checkpoints:
        say("the file has no checkpoints, so trials restart from 0 (ashwood export --checkpoints adds them)", err=True)
