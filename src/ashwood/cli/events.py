"""``ashwood events`` and ``ashwood replay``: the log, and the check that the search decides what it holds."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from ashwood.cli.export import warn_of_damage
from ashwood.cli.output import format_length, print_json, to_json
from ashwood.cli.text import cut, say
from ashwood.engine import open_home
from ashwood.engine.verification import rebuild, replayed
from ashwood.errors import IllegalEvent
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import Entry, ExperimentId, Seq, Store
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.views.descriptions import describe_decisions, describe_event, trials_of

_FOLLOW_SECONDS = 0.2


def show_events(home: str | None, experiment: int, *, follow: bool, trial: int | None, after: int, json: bool) -> None:
    """``ashwood events``."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    with open_home(home) as opened:
        spec = opened.store.spec(experiment)
        warn_of_damage(opened, experiment)
        try:
            for seq, entry in _entries(opened.store, experiment, after, follow=follow):
                if trial is None or concerns(entry, trial):
                    line = entry_json(seq, entry) if json else entry_line(seq, entry, spec)
                    say(line if json or columns is None else cut(line, columns))
        except KeyboardInterrupt:
            pass


def check_replay(home: str | None, experiment: int, *, json: bool) -> None:
    """``ashwood replay``."""
    with open_home(home) as opened:
        unverified = opened.unverified(experiment)
        start = time.perf_counter()
        folded = replayed(opened, experiment)
        seconds = time.perf_counter() - start
        count, state = folded.seq, folded.experiment.state
        is_rebuilt = opened.store.record(experiment).damage is not None and not opened.is_driven(experiment)
        if is_rebuilt:
            rebuild(opened, experiment, folded)
    if json:
        print_json({"experiment": experiment, "events": count, "state": state, "seconds": seconds})
        return
    say(
        f"experiment {experiment}: {format_length(count, 'events')} replayed in {seconds:.2f} s, "
        "every decision is what the search decides"
    )
    if unverified is not None:
        say(f"warning: {unverified}", err=True)
    if is_rebuilt:
        say(f"experiment {experiment}: its state and summary in the list are rebuilt from the log")


def _entries(store: Store, experiment: ExperimentId, after: Seq, *, follow: bool) -> Iterator[tuple[Seq, Entry]]:
    """Entries of the log; with ``follow`` also those to come, until the experiment ends."""
    log = store.log(experiment)
    while True:
        # Asked before reading: what leads to a state is recorded together with it.
        state = store.record(experiment).state
        for seq, entry in log.read(after=after):
            after = seq
            yield seq, entry
        if not follow or is_over(state):
            return
        time.sleep(_FOLLOW_SECONDS)


def is_over(state: ExperimentState) -> bool:
    """Whether an experiment goes on with nothing, unless somebody resumes it for more than was wanted."""
    return state.ended or state is ExperimentState.STOPPED


def follow(experiment: Experiment, entry: Entry) -> Experiment | None:
    """The experiment after an entry; None: this version of Ashwood can't follow its log."""
    try:
        experiment.handle(entry.event)
    except IllegalEvent:
        return None
    return experiment


def concerns(entry: Entry, trial: TrialId) -> bool:
    """Whether an entry is about a trial, or decides something about it."""
    return trial in trials_of(entry.event, entry.decisions)


def entry_json(seq: Seq, entry: Entry) -> str:
    """An entry as a line of strict JSON."""
    return json.dumps({"seq": seq, "at": entry.at, **to_json(json.loads(encode_entry(entry)))})


def entry_line(seq: Seq, entry: Entry, spec: ExperimentSpec) -> str:
    """An entry as a line for people: number, time, what happened, what was decided and why."""
    at = datetime.fromtimestamp(entry.at, UTC).astimezone()
    happened = describe_event(entry.event, spec.unit)
    decided = describe_decisions(entry.decisions, spec.unit)
    line = f"{seq:>6}  {at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}  {happened:<52}"
    return " ".join(f"{line}  → {decided}".splitlines()) if decided else " ".join(line.splitlines()).rstrip()
