"""Commands that show experiments and change nothing."""

from __future__ import annotations

import codecs
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rich.markup import escape

from ashwood.api.tables import read_trials
from ashwood.checkpoints import Storage
from ashwood.checkpoints.limited import read_pieces
from ashwood.checkpoints.regular import open_to_read
from ashwood.errors import AshwoodError, EventLogError, NotFound, ReplayDivergence
from ashwood.eventlog.fold_cache import fold, read_progress
from ashwood.eventlog.home import Home, open_home
from ashwood.eventlog.port import ExperimentId, ExperimentRecord, PendingRequest, UnreadableRequest
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec, Unit, source_of
from ashwood.forecast.time_left import Forecaster
from ashwood.terminal.ladder import render_ladder
from ashwood.terminal.messages import (
    LONGEST_ERROR,
    LONGEST_NAME,
    failure_lines,
    how_to_resume,
    named_trials,
    no_best,
    plan,
    status_line,
    trust_lines,
    waiting_for,
    warn_of_damage,
)
from ashwood.terminal.output import format_ago, format_time, make_console, near, print_csv, print_json, print_table
from ashwood.terminal.text import brief, say, without_sequences
from ashwood.views.descriptions import describe_event, describe_given, describe_guides
from ashwood.views.failures import group_failures
from ashwood.views.ladder import BracketView
from ashwood.views.plain import plain
from ashwood.views.progress import Progress
from ashwood.views.recommendation import describe_results, recommendation_record
from ashwood.views.spending import nodes_of
from ashwood.views.table import (
    TRIAL_COLUMNS,
    best_first,
    explain_no_match,
    heading,
    select,
    setting_of,
    trial_columns,
    trial_records,
)
from ashwood.views.trials import TrialRow, TrialTable
from ashwood.views.wording import (
    describe_method,
    describe_seen,
    format_duration,
    format_length,
    format_value,
    known_length,
)

_FOLLOW_SECONDS = 0.5
_SHORTEST_NAME = 20
_BESIDE_NAME = 40
"""Columns of the first line of ``describe`` that are reserved for the number and the state."""
_MOST_COLUMNS = 30
_FEW = 20
"""Number of trials that a terminal shows by default."""
_FEWEST_COLUMNS = 3
_FAILED = (TrialState.ERRORED, TrialState.INVALID)
_ERROR_FIRST = ["trial", "state", "error"]
"""First columns of a table of failed trials on a terminal."""
_BESIDE_ERROR = 18
"""Width of the two columns before the error, with the gaps."""
_PATIENCE = 1.0
"""Time limit of a forecast in seconds."""


class _Listed(NamedTuple):
    """An experiment in the list.

    Attributes:
        record: its record.
        state: its state.
        damage: what is damaged, or None.
        waits: what its driver waits for, or None.
        metric: name of its metric, or None if the spec cannot be read.
        search: its search method with the mode, or None.
        source: number of the experiment from whose file it was started, or None.
    """

    record: ExperimentRecord
    state: str
    damage: str | None
    waits: str | None
    metric: str | None
    search: str | None
    source: int | None


_LIST_COLUMNS = ("id", "name", "state", "done", "trials", "best", "created", "labels")
_MORE_COLUMNS = ("archived", "metric", "search", "seconds", "replicates")
"""Columns of CSV output that come after those of the table."""


def show_experiments(home: str | None, *, archived: bool, label: str | None, csv: bool, json: bool) -> None:
    """Run ``ashwood list``; archived experiments are listed only if ``archived``."""
    with open_home(home) as opened:
        experiments = opened.store.experiments()
        try:
            opened.check_numbers(experiments)
        except EventLogError as error:
            say(f"warning: {error}", err=True)
        listed = [
            _listed(opened, record)
            for record in experiments
            if (archived or not record.archived) and (label is None or label in record.labels)
        ]
    if json:
        print_json(
            [
                {
                    **each.record._asdict(),
                    "state": each.state,
                    "damage": each.damage,
                    "driver_waits": each.waits,
                    "metric": each.metric,
                    "search": each.search,
                    "from": each.source,
                }
                for each in listed
            ]
        )
        return
    if csv:
        print_csv((*_LIST_COLUMNS, *_MORE_COLUMNS), map(_csv_row, listed))
        return
    if not listed and label is not None:
        labels = dict.fromkeys(each for record in experiments for each in record.labels)
        say(f"No experiment has the label {label!r}; labels are: {', '.join(labels) or 'none'}.", wrap=True)
        return
    now = time.time() if sys.stdout.isatty() else None
    rows: list[Sequence[Any]] = [
        (
            record.id,
            record.name,
            state,
            _percent(record.summary.get("fraction")),
            _trials_in(record.summary),
            (record.summary.get("best") or {}).get("metric"),
            format_time(record.created_at) if now is None else format_ago(record.created_at, now),
            metric,
            format_duration(record.summary.get("seconds")),
            search,
            " ".join([*record.labels, *_from(source), *["(archived)"] * record.archived]) or None,
        )
        for record, state, _, _, metric, search, source in listed
    ]
    columns = ["id", "name", "state", "done", "trials", "best", "created", "metric", "run time", "search", "labels"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    right = ("id", "done", "trials", "best", "run time", "created")
    print_table(columns, rows, right=right, cut=("labels", "name"), least=len(_LIST_COLUMNS) - 1)
    for record, state, damage, waits, *_ in listed:
        if state in (ExperimentState.PAUSING, ExperimentState.STOPPING) and (trials := record.summary.get("waits_for")):
            say(f"experiment {record.id} is {state}: waiting for {named_trials(trials)}", wrap=True)
        if waits is not None:
            say(f"experiment {record.id} is waiting for {brief(waits, LONGEST_ERROR)}", wrap=True)
        if damage is not None:
            say(f"experiment {record.id} is damaged: {damage}", fg="red", wrap=True)


def _csv_row(listed: _Listed) -> Sequence[Any]:
    record = listed.record
    return (
        record.id,
        record.name,
        listed.state,
        record.summary.get("fraction"),
        _count_in(record.summary),
        (record.summary.get("best") or {}).get("metric"),
        datetime.fromtimestamp(record.created_at, UTC).isoformat(),
        " ".join(record.labels),
        str(record.archived).lower(),
        listed.metric,
        listed.search,
        record.summary.get("seconds"),
        record.summary.get("replicates_created", 0),
    )


def _count_in(summary: Mapping[str, Any]) -> int:
    """Return the number of trials without replicates; summaries of earlier versions only count trials by state."""
    created: int = summary.get("trials_created", sum(summary.get("trials", {}).values()))
    return created


def _trials_in(summary: Mapping[str, Any]) -> int | str:
    replicates = summary.get("replicates_created", 0)
    return f"{_count_in(summary)} + {format_length(replicates, 'replicates')}" if replicates else _count_in(summary)


def _listed(home: Home, record: ExperimentRecord) -> _Listed:
    damage, state = home.damage(record), _state(home, record)
    if damage is not None:
        state = "damaged"
    elif state == "interrupted":
        # The driver writes the summary at most once a second, so one that was killed leaves an older one.
        with suppress(EventLogError):
            record = record._replace(summary=Forecaster(read_progress(home, record.id)).summary())
    metric = search = source = None
    with suppress(EventLogError, NotFound):
        spec = home.store.spec(record.id)
        metric, search, source = spec.metric, describe_method(spec.search), source_of(spec.provenance)
    return _Listed(record, state, damage, home.waits_for(record), metric, search, source)


def _from(source: int | None) -> list[str]:
    return [] if source is None else [f"(from {source})"]


def describe_experiments(home: str | None, experiments: Sequence[int], *, json: bool) -> None:
    """Run ``ashwood describe``; the JSON of several experiments is a list."""
    described = []
    for position, experiment in enumerate(experiments):
        if position and not json:
            say()
        described.append(_describe(home, experiment, json=json))
    if json:
        print_json(described[0] if len(described) == 1 else described)


def show_config(home: str | None, experiment: int, *, json: bool) -> None:
    """Run ``ashwood config``."""
    from ashwood.config import tree_of, with_overrides  # imported here, because `ashwood list` doesn't need it

    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
    overrides = spec.provenance.get("overrides", ())
    if json:
        print_json(with_overrides(spec.config_text, overrides) if spec.config_text else tree_of(spec))
        return
    if spec.config_text and not overrides:
        say(spec.config_text, nl=not spec.config_text.endswith("\n"))
        return
    import yaml  # imported here, because it is slow to import and `ashwood list` doesn't use it

    if spec.config_text:
        tree = with_overrides(spec.config_text, overrides)
        say("# The experiment file, with values of the command line:")
        for override in overrides:
            say(f"#   --set {override}")
    else:
        tree = tree_of(spec)
        say("# The experiment was described in Python.")
    say(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


def _describe(home: str | None, experiment: int, *, json: bool) -> dict[str, Any] | None:
    """Return the description of an experiment if ``json``, otherwise print it."""
    with open_home(home) as opened:
        record, spec = opened.store.record(experiment), opened.store.spec(experiment)
        record = record._replace(damage=opened.damage(record))
        state, waits = _state(opened, record), opened.waits_for(record)
        # Only a running experiment has a forecast, which needs the state of its search.
        progress = _read(opened, experiment, spec, runs=state == ExperimentState.RUNNING)
        pending = [request for _, request in opened.store.pending(experiment)]
        notes = dict(opened.store.notes(experiment))
        logs, storage = opened.logs(experiment), opened.storage(experiment, spec)
    forecaster = Forecaster(progress)
    now = time.time() if state == ExperimentState.RUNNING else None
    if now is not None:
        forecaster.look(now)
        forecaster.forecast(now, patience=_PATIENCE)
    bounds = progress.bounds
    stop_when = {"metric_at": bounds.metric_at, "max_time": bounds.max_time}
    best, capacity = progress.recommended, _capacity(progress, runs=now is not None)
    results, reading = progress.describe_recommendation(), progress.trust.reading()
    seen = None if results is not None else progress.describe_seen()
    if json:
        summary = {
            "id": record.id,
            "name": record.name,
            "labels": record.labels,
            "note": notes.pop(None, None),
            "trial_notes": notes,
            "archived": record.archived,
            "damage": record.damage,
            "created_at": record.created_at,
            "seed": spec.seed,
            "stop_when": stop_when,
            "provenance": spec.provenance,
            "trials_pending": progress.pending,
            "pending": [{"is": type(request).__name__, **request._asdict()} for request in pending],
        }
        return {
            **summary,
            **forecaster.summary(now),
            "state": state,
            "driver_waits": waits,
            "why_ended": progress.why_ended,
            "backend": "local" if spec.ray is None else "ray",
            **capacity,
            "brackets": [_bracket_record(bracket) for bracket in progress.ladder.brackets],
            "best": None if best is None else _record(best, spec, storage),
            "trust": plain(reading),
            "warnings": list(progress.recent_warnings),
            "failures": plain(group_failures(progress.trials, progress.spec)),
            "checkpoints": {
                "number": progress.trials.checkpoints,
                "size": progress.trials.checkpoint_size,
                "max_size": bounds.max_size,
                "repeated": progress.repeated_for_size,
            },
            "logs": str(logs),
            "config": spec.config_text,
        }
    console = make_console()
    name = brief(record.name, max(_SHORTEST_NAME, console.width - _BESIDE_NAME))
    console.print(f"[bold]experiment {record.id}[/bold]  {escape(name)}  [bold]{state}[/bold]")
    if spec.description:
        say(spec.description, wrap=True)
    for line in _note_lines(experiment, notes, console.width):
        say(line)
    say()
    if best is not None:
        _print_trial(best, spec, storage, seen, results)
    elif progress.reports:
        say(no_best(progress), wrap=True)
    if best is not None or progress.reports:
        say()
    say(status_line(forecaster, now), wrap=True)
    _print_nodes(capacity)
    requests = _requests(pending, progress)
    trust = () if reading is None else trust_lines(reading, experiment)
    for line in (*_waits(state, progress, waits), *_ends(record.id, state, progress), *requests, *trust):
        say(line, wrap=True)
    _print_problems(progress)
    say()
    search = f"{describe_method(progress.spec.search)}, {plan(progress)}, seed {spec.seed}"
    for line in (search, *describe_guides(spec), *_backend(spec)):
        say(line, wrap=True)
    console.print(render_ladder(spec, progress.ladder, width=console.width))
    say()
    created = f"created {format_time(record.created_at)}"
    labels = [brief(line, console.width) for line in _notes(record)]
    for line in (*_bounds(stop_when, spec), *_checkpoints(progress), *labels, created, *_code(spec.provenance)):
        say(line, wrap=True)
    say(f"logs: {logs}")
    return None


def _requests(pending: Iterable[PendingRequest], progress: Progress) -> Iterator[str]:
    """Yield lines about what users have requested and the driver has not done yet."""
    for request in pending:
        yield f"requested, not done yet: {_describe_request(request, progress.spec.unit)}"
    if progress.pending and not progress.state.ended:
        yield f"trials with given hyperparameters that are not created yet: {progress.pending}"


def _print_problems(progress: Progress) -> None:
    for line in failure_lines(progress):
        say(line, fg="red", wrap=True)
    for warning in progress.recent_warnings:
        say(f"warning: {warning}", fg="yellow", wrap=True)


def _checkpoints(progress: Progress) -> Iterator[str]:
    """Yield the number and the size of the checkpoints, and the training that max_size costs."""
    number, size, most = progress.trials.checkpoints, progress.trials.checkpoint_size, progress.bounds.max_size
    if not number and most is None:
        return
    limit = "" if most is None else f" of at most {format_size(most)} (max_size)"
    # Logs of version 8 and older do not contain the sizes.
    known = f", {format_size(size)}{limit}" if size or most is not None else ""
    yield f"{format_length(number, 'checkpoints')}{known}"
    if repeats := progress.repeated_for_size:
        unit = progress.spec.unit
        yield f"{format_length(repeats, unit)} of training repeated, because checkpoints were deleted to keep max_size"


def _ends(experiment: ExperimentId, state: str, progress: Progress) -> Iterator[str]:
    """Yield why an experiment ended or paused, and how to continue it."""
    if progress.why_ended:
        label = "reason" if progress.state is ExperimentState.PAUSED else "ended"
        yield f"{label}: {brief(progress.why_ended, LONGEST_ERROR)}"
    if state in (ExperimentState.PAUSED, ExperimentState.STOPPED, "interrupted"):
        yield from how_to_resume(
            experiment, None if progress.leaving is None or state == "interrupted" else progress.leaving.why
        )


def _read(home: Home, experiment: ExperimentId, spec: ExperimentSpec, *, runs: bool) -> Progress:
    if runs:
        with suppress(ReplayDivergence):  # Another version of Ashwood drives it, so there is no forecast.
            return fold(spec, home.store.log(experiment), home.snapshot(experiment)).progress
    return read_progress(home, experiment)


def show_trials(
    home: str | None,
    experiment: int,
    *,
    sort: str | None,
    where: Sequence[str],
    limit: int | None,
    whole: bool,
    json: bool,
) -> None:
    """Run ``ashwood trials``; on a terminal the table fits, and shows a few trials, unless ``whole``."""
    with open_home(home) as opened:
        spec, table = read_trials(opened, experiment)
        storage = opened.storage(experiment, spec)
        now = time.time() if opened.is_driven(experiment) else None
    everything = list(trial_records(table, spec, storage.locate, now))
    sort = ("trial" if json else "best") if sort is None else sort
    sort = best_first(everything, sort, spec.metric, smaller_is_better=spec.smaller_is_better)
    records = select(everything, where, sort)
    fits = sys.stdout.isatty() and not whole
    shown = records[: (_FEW if fits else 0) if limit is None else limit] or records
    if json:
        print_json(records if limit is None else shown)
        return
    if not records:
        why = f"; {explain_no_match(everything, where)}" if everything and where else ""
        say(f"No trial of experiment {experiment} {'matches' if where else 'exists yet'}{why}.", wrap=True)
        return
    columns = _columns(shown, trial_columns(shown, spec.space), spec.metric, by_use=fits)
    left_out = len(columns) - _MOST_COLUMNS
    if left_out > 0:
        columns = _main_columns(columns)
    if columns[: len(_ERROR_FIRST)] == _ERROR_FIRST:  # As much of the errors as fits is more useful than other columns.
        room = make_console().width - _BESIDE_ERROR
        shown = [record | {"error": brief(record["error"] or "", room) or None} for record in shown]
    rows = [[setting_of(record, column) for column in columns] for record in shown]
    names = [heading(column, columns) for column in columns]
    numeric = [name for i, name in enumerate(names) if any(isinstance(row[i], int | float) for row in rows)]
    # Not a rich table: if a line is too long, wrapping by the terminal is easier to read than folded cells.
    narrow = print_table(names, rows, right=numeric, least=_FEWEST_COLUMNS if fits else None)
    more = [f"{len(records) - len(shown):,} more trials"] if len(records) > len(shown) and limit is None else []
    more += [f"{narrow:,} more columns"] if narrow else []
    if more:
        say(f"{' and '.join(more)}: --all")
    if left_out > 0:
        say(f"{left_out:,} more columns: ashwood trials {experiment} --json", err=True)


def _columns(records: Sequence[Mapping[str, Any]], every: Sequence[str], metric: str, *, by_use: bool) -> list[str]:
    """Return those of all columns that are shown; if ``by_use``, those that matter most come first."""
    hidden = {"seed", "created_at", "ended_at", "checkpoint", "checkpoint_length", "attempts", "best_length"}
    hidden |= {f"seen.{metric}", "seen_length"}
    # These columns rarely have values: the first two only on a cluster.
    rare = ("node", "preempted", "given", "audits", "replicate_of")
    hidden |= {column for column in rare if not any(record[column] for record in records)}
    columns = [column for column in every if column not in hidden]
    if not by_use:
        return columns
    first = ["trial", f"best.{metric}", "state", "length"]
    if all(record["state"] in _FAILED for record in records) and any(record["error"] for record in records):
        first = [*_ERROR_FIRST, *first]
    hparams = [column for column in columns if column.startswith("hparams.")]
    varied = [column for column in hparams if len({str(record.get(column)) for record in records}) > 1]
    return list(dict.fromkeys([*first, *varied, *columns]))


def _main_columns(columns: Sequence[str]) -> list[str]:
    """Return the first 30 columns: general ones first, then hyperparameters, then metrics."""
    own = [column for column in columns if column in TRIAL_COLUMNS or column.startswith("best.")]
    hparams = [column for column in columns if column.startswith("hparams.")]
    kept = set(list(dict.fromkeys([*columns[:_FEWEST_COLUMNS], *own, *hparams, *columns]))[:_MOST_COLUMNS])
    return [column for column in columns if column in kept]


def show_best(home: str | None, experiment: int, *, n: int, json: bool) -> None:
    """Run ``ashwood best``."""
    with open_home(home) as opened:
        warn_of_damage(opened, experiment)
        progress = read_progress(opened, experiment)
        spec, table = progress.spec, progress.trials
        storage = opened.storage(experiment, spec)
    best, settings = progress.best_trials(n), {each.trial: each for each in progress.recommendations(n)}
    if json:
        found = [(row, recommendation_record(settings.get(row.id))) for row in best]
        print_json([{**_record(row, spec, storage), "recommended": record} for row, record in found])
        return
    if not best:
        metric = brief(spec.metric, LONGEST_NAME)
        say(f"No trial of experiment {experiment} has reported a {metric} that is a finite number.", wrap=True)
    for position, row in enumerate(best):
        if position:
            say()
        results = None if position else progress.describe_recommendation()
        if position and (setting := settings.get(row.id)) is not None and setting.seeds > 1:
            results = describe_results(setting, spec.unit)
        seen = _seen(row, spec, table) if position else progress.describe_seen()
        _print_trial(row, spec, storage, None if results is not None and not position else seen, results)


def _seen(row: TrialRow, spec: ExperimentSpec, table: TrialTable) -> str | None:
    """Return a line about a report of a trial that is better than its result, or None if there is no such report."""
    if not table.has_seen_better(row):
        return None
    return describe_seen(row.seen or 0.0, row.seen_length or 0, spec.unit, smaller_is_better=spec.smaller_is_better)


def show_all_logs(home: str | None, experiment: int, *, tail: int | None, json: bool) -> None:
    """Run ``ashwood logs`` for all trials: the output of each, that of the newest trial first."""
    with open_home(home) as opened:
        spec, table = read_trials(opened, experiment)
        logs = opened.logs(experiment)
    shown = 0
    with suppress(KeyboardInterrupt):
        for trial in sorted(table.rows, reverse=True):
            with suppress(FileNotFoundError), _opened_log(logs / f"trial-{trial}.log", trial) as log:
                if not json:
                    say(f"{chr(10) * (shown > 0)}=== trial {trial}, {table.rows[trial].state} ===", bold=True)
                _show_log(log, spec, trial, tail=tail, follow=False, json=json)
                shown += 1
    if not shown:
        say(f"experiment {experiment} has no logs: no trial has started, or it was imported without logs", err=True)


def _opened_log(path: Path, trial: int) -> BinaryIO:
    """Open the log of a trial.

    Raises:
        FileNotFoundError: there is none.
        AshwoodError: it cannot be read.
    """
    try:
        return open_to_read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AshwoodError(f"cannot read the log of trial {trial}: {path} {error.strerror}") from None


def show_logs(home: str | None, experiment: int, trial: int, *, tail: int | None, follow: bool, json: bool) -> None:
    """Run ``ashwood logs`` for one trial."""
    with open_home(home) as opened:
        spec, table = read_trials(opened, experiment)
        path = opened.logs(experiment) / f"trial-{trial}.log"
    if trial not in table.rows:
        there = f"its trials are 0 to {len(table.rows) - 1}" if table.rows else "it has no trials yet"
        raise NotFound(f"experiment {experiment} has no trial {trial}; {there}")
    try:
        log = _opened_log(path, trial)
    except FileNotFoundError:
        say(
            f"trial {trial} has no log ({path}): it has not started, or it was imported without logs",
            err=True,
        )
        return
    with log, suppress(KeyboardInterrupt):
        _show_log(log, spec, trial, tail=tail, follow=follow, json=json)


def _show_log(log: BinaryIO, spec: ExperimentSpec, trial: int, *, tail: int | None, follow: bool, json: bool) -> None:
    """Print a log, or only its last ``tail`` lines, and new output if ``follow``; with ``json``, an object per line."""
    write = partial(_write_json, trial) if json else _write
    decoder, position, rest = codecs.getincrementaldecoder("utf-8")("replace"), 0, ""
    if tail is not None:
        kept: deque[str] = deque(maxlen=tail)
        for data, end in read_pieces(log, spec.max_log_size):
            position = end
            *whole, rest = (rest + decoder.decode(data)).split("\n")
            kept.extend(whole)
        if rest:
            kept.append(rest)
        write("".join(f"{line}\n" for line in kept))
        rest = ""
    while follow or tail is None:
        for data, end in read_pieces(log, spec.max_log_size, position):
            position = end
            # Only whole lines are written, so that no escape sequence is split before it is removed.
            lines, newline, rest = (rest + decoder.decode(data)).rpartition("\n")
            write(lines + newline)
        if not (json and follow):  # An object holds a whole line.
            write(rest)
            rest = ""
        if not follow:
            break
        time.sleep(_FOLLOW_SECONDS)


def _write(text: str) -> None:
    sys.stdout.write(without_sequences(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _write_json(trial: int, text: str) -> None:
    lines = text.removesuffix("\n").split("\n") if text else []
    sys.stdout.write("".join(f"{dumps({'trial': trial, 'text': line})}\n" for line in lines))
    sys.stdout.flush()


def _capacity(progress: Progress, *, runs: bool) -> dict[str, Any]:
    spending = progress.trials.spending
    if not runs:  # After a driver has died, the log still has its workers.
        return {"slots": 0, "slots_in_use": 0, "nodes": []}
    nodes = [{"node": node.name, "slots": node.slots, "trials": node.trials} for node in nodes_of(spending)]
    return {"slots": spending.slots, "slots_in_use": len(spending.live), "nodes": nodes}


def _print_nodes(capacity: Mapping[str, Any]) -> None:
    if not (nodes := capacity["nodes"]):
        return
    there = format_length(capacity["slots"], "slots")
    say(f"{there} on {format_length(len(nodes), 'nodes')}, {capacity['slots_in_use']} in use", wrap=True)
    rows = [(node["node"], node["slots"], " ".join(map(str, node["trials"])) or None) for node in nodes]
    print_table(("node", "slots", "trials"), rows, right=("slots",))


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else f"{fraction:.0%}"


def _bracket_record(bracket: BracketView) -> dict[str, Any]:
    rungs = [
        {
            "length": known_length(r.length),
            "arrived": r.arrived,
            "promoted": r.promoted,
            "audits": r.audits,
            "failed": r.failed,
            "killed": r.killed,
            "training": len(r.training),
        }
        for r in bracket.rungs
    ]
    return {"number": bracket.number, "planned": bracket.planned, "created": bracket.created, "rungs": rungs}


def _backend(spec: ExperimentSpec) -> Iterator[str]:
    if spec.ray is not None:
        yield f"runs on a Ray cluster{'' if spec.ray.address is None else f', {spec.ray.address}'}"


def _bounds(stop_when: Mapping[str, float | None], spec: ExperimentSpec) -> Iterator[str]:
    if (metric := stop_when["metric_at"]) is not None:
        yield f"stops when {spec.metric} is {format_value(metric)} or better"
    if (seconds := stop_when["max_time"]) is not None:
        yield f"stops after {format_duration(seconds)}"


def _code(provenance: Mapping[str, Any]) -> Iterator[str]:
    if not provenance:
        return
    source = "" if (number := source_of(provenance)) is None else f"again, from experiment {number}, "
    if source and (changed := provenance.get("changed")):
        source = f"from experiment {number} with changes ({brief(', '.join(map(str, changed)), LONGEST_NAME)}), "
    git = provenance.get("git")
    commit = f", commit {git['commit'][:10]}" if git else ""
    branch = f" of {git['branch']}" if git and git["branch"] else ""
    yield f"run {source}with Ashwood {provenance['ashwood']}, Python {provenance['python']}{commit}{branch}"
    from ashwood.engine.provenance import dirt  # imported here, because the engine is slow to import

    if (unrecorded := dirt(provenance)) is not None:
        yield f"at that time, {unrecorded}"


def _describe_request(request: PendingRequest, unit: Unit) -> str:
    if isinstance(request, UnreadableRequest):
        return f"an unreadable request, which will be refused ({request.why})"
    return describe_event(request, unit)


def _notes(record: ExperimentRecord) -> Iterator[str]:
    if record.labels:
        yield f"labels: {', '.join(record.labels)}"
    if record.archived:
        yield f"archived; to undo: ashwood archive {record.id} --undo"
    if record.damage is not None:
        yield f"damaged: {record.damage}"


def _note_lines(experiment: int, notes: Mapping[int | None, str], width: int) -> Iterator[str]:
    """Yield the beginning of the note on an experiment, and which trials have notes."""
    if (note := notes.get(None)) is not None:
        first, *more = note.strip().splitlines() or [""]
        yield brief(f"note: {first.lstrip('# ')}", width) + (f" … (ashwood note {experiment})" if more else "")
    if trials := [str(trial) for trial in notes if trial is not None]:
        yield brief(f"notes on trials: {', '.join(trials)}", width)


def _waits(state: str, progress: Progress, before: str | None) -> Iterator[str]:
    """Yield lines about what the driver waits for: ``before`` before the start, or trials before a pause or an end."""
    if before is not None:
        yield f"waiting for {brief(before, LONGEST_ERROR)}"
    if state in (ExperimentState.PAUSING, ExperimentState.STOPPING) and progress.waits_for:
        yield f"{state}: {waiting_for(progress.waits_for)}"


def _state(home: Home, record: ExperimentRecord) -> str:
    return "interrupted" if home.is_interrupted(record) else str(record.state)


def _record(row: TrialRow, spec: ExperimentSpec, storage: Storage) -> dict[str, Any]:
    checkpoint = row.best_checkpoint
    return {
        "trial": row.id,
        "state": row.state,
        "metric": row.metric,
        "length": row.metric_length,
        "seen": None if row.seen is None else {"metric": row.seen, "length": row.seen_length},
        "unit": spec.unit,
        "hyperparameters": row.hparams,
        "given": row.given,
        "checkpoint": None if checkpoint is None else storage.locate(checkpoint.path),
        "checkpoint_length": None if checkpoint is None else checkpoint.length,
        "seed": row.seed,
    }


def _print_trial(
    row: TrialRow, spec: ExperimentSpec, storage: Storage, seen: str | None, results: str | None = None
) -> None:
    """Print a trial as YAML with comments, so that all lines can be pasted.

    Comments, too, are the lines about its best report (``seen``) and about the results of its setting (``results``).
    """
    import yaml  # imported here, because it is slow to import and `ashwood list` doesn't use it

    metric, checkpoint = brief(spec.metric, LONGEST_NAME), row.best_checkpoint
    if row.metric is not None:
        result = f"{metric} {row.metric:.6g} at {format_length(row.metric_length or 0, spec.unit)}"
    else:
        result = f"no checkpoint with a {metric}" if checkpoint is None else f"{metric} of its checkpoint is unknown"
    comments = [f"trial {row.id}, {row.state}: {result}"]
    if results is not None:
        comments.append(f"recommended: {metric} {results}")
    if seen is not None:
        comments.append(seen)
    if row.given:
        comments.append(f"given settings: {describe_given(row.given)}")
    if checkpoint is None:
        comments.append("no checkpoint")
    else:
        place = storage.locate(checkpoint.path)
        missing = "" if "://" in place or Path(place).is_dir() else " (missing)"
        shown = near(place) if sys.stdout.isatty() else place
        comments.append(f"checkpoint at {format_length(checkpoint.length, spec.unit)}: {shown}{missing}")
    for comment in comments:
        say(f"# {comment}", wrap=True)
    say(yaml.safe_dump({"hyperparameters": dict(row.hparams)}, sort_keys=False, allow_unicode=True), nl=False)
