"""``ashwood events`` and ``ashwood replay``: the event log, and the check of its decisions."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from ashwood.engine import open_home
from ashwood.engine.verification import rebuild, replayed
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import ExperimentId, Seq, Store
from ashwood.experiment.entry import Entry
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.terminal.messages import is_over, warn_of_damage
from ashwood.terminal.output import print_json
from ashwood.terminal.text import cut, say
from ashwood.views.descriptions import describe_decisions, describe_event, trials_of
from ashwood.views.table import to_json
from ashwood.views.wording import format_length

_FOLLOW_SECONDS = 0.2


def show_events(home: str | None, experiment: int, *, follow: bool, trial: int | None, after: int, json: bool) -> None:
    """Run ``ashwood events``."""
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
    """Run ``ashwood replay``."""
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
        f"experiment {experiment}: {format_length(count, 'events')} replayed in {seconds:.2f} s; "
        "every decision matches the event log"
    )
    if unverified is not None:
        say(f"warning: {unverified}", err=True)
    if is_rebuilt:
        say(f"experiment {experiment}: its state and summary were rebuilt from the event log")


def _entries(store: Store, experiment: ExperimentId, after: Seq, *, follow: bool) -> Iterator[tuple[Seq, Entry]]:
    """Yield the entries after ``after``; with ``follow`` also new ones, until the experiment ends or stops."""
    log = store.log(experiment)
    while True:
        # The state is read before the log.  The entry that ended the experiment was committed with the state, so
        # the read below is sure to include it.
        state = store.record(experiment).state
        for seq, entry in log.read(after=after):
            after = seq
            yield seq, entry
        if not follow or is_over(state):
            return
        time.sleep(_FOLLOW_SECONDS)


def concerns(entry: Entry, trial: TrialId) -> bool:
    """Return whether an entry is about a trial: its event or one of its decisions."""
    return trial in trials_of(entry.event, entry.decisions)


def entry_json(seq: Seq, entry: Entry) -> str:
    """Return an entry as one line of strict JSON."""
    return json.dumps({"seq": seq, "at": entry.at, **to_json(json.loads(encode_entry(entry)))})


def entry_line(seq: Seq, entry: Entry, spec: ExperimentSpec) -> str:
    """Return an entry as one line of text: sequence number, time, event, decisions and their reasons."""
    at = datetime.fromtimestamp(entry.at, UTC).astimezone()
    happened = describe_event(entry.event, spec.unit)
    decided = describe_decisions(entry.decisions, spec.unit)
    line = f"{seq:>6}  {at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}  {happened:<52}"
    return " ".join(f"{line}  → {decided}".splitlines()) if decided else " ".join(line.splitlines()).rstrip()
