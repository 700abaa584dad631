"""``ashwood events`` and ``ashwood replay``: the event log, and the check of its decisions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TypeAlias

from ashwood.engine import open_home
from ashwood.engine.verification import rebuild, replayed
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import ExperimentId, Seq, Store
from ashwood.experiment.entry import Entry
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.terminal.messages import is_over, warn_of_damage
from ashwood.terminal.output import print_json
from ashwood.terminal.text import brief, cut, fitted, printable, say
from ashwood.views.descriptions import describe_event, is_routine, trials_of
from ashwood.views.event_groups import group_decisions, kinds_of
from ashwood.views.event_kinds import EventKind
from ashwood.views.table import to_json
from ashwood.views.trials import TrialTable
from ashwood.views.wording import format_length

_FOLLOW_SECONDS = 0.2
_WIDEST = 200
"""Largest width of a line on a terminal."""
_INDENT = 18
"""Columns of the sequence number and the time on a terminal."""
_LESS = "FRX"
"""Options of the pager ``less``: stop if everything fits the screen, show colors, keep the text on the screen."""

_Numbered: TypeAlias = tuple[Seq, Entry]


@dataclass(frozen=True, slots=True)
class EventChoice:
    """The events that a command shows.

    Attributes:
        trial: only events of this trial, or None.
        after: only events after this sequence number.
        kinds: only events of these kinds; empty for all.
        limit: only this number of last events, or 0 for all.
    """

    trial: TrialId | None = None
    after: Seq = 0
    kinds: Set[EventKind] = frozenset()
    limit: int = 0


def show_events(home: str | None, experiment: int, choice: EventChoice, *, follow: bool, json: bool) -> None:
    """Run ``ashwood events``."""
    is_terminal = sys.stdout.isatty()
    with open_home(home) as opened, suppress(KeyboardInterrupt):
        spec = opened.store.spec(experiment)
        warn_of_damage(opened, experiment)
        chosen = _chosen(opened.store, experiment, spec, choice, follow=follow)
        if json:
            lines: Iterable[str] = (entry_json(seq, entry) for seq, entry in chosen)
        elif is_terminal:
            lines = _short_lines(chosen, spec, min(shutil.get_terminal_size().columns, _WIDEST))
        else:
            lines = (entry_line(seq, entry, spec) for seq, entry in chosen)
        if is_terminal and not (json or follow):
            _page(lines)
        else:
            for line in lines:
                say(line)


def _page(lines: Iterable[str]) -> None:
    """Print lines; if they do not fit the terminal, in the pager of the user."""
    rest = iter(lines)
    first = list(islice(rest, max(shutil.get_terminal_size().lines - 1, 1)))
    following = next(rest, None)
    if following is None or not sys.stdin.isatty():
        for line in chain(first, [] if following is None else [following], rest):
            say(line)
        return
    os.environ.setdefault("LESS", _LESS)
    pager = os.environ.get("PAGER") or ("less" if shutil.which("less") else "more")
    try:
        process = subprocess.Popen(pager, shell=True, stdin=subprocess.PIPE, text=True, errors="replace")  # noqa: S602
    except OSError:
        for line in chain(first, [following], rest):
            say(line)
        return
    # Ctrl-C is for the pager.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with suppress(BrokenPipeError), process:  # The user can leave the pager before the end.
            for line in chain(first, [following], rest):
                print(printable(line), file=process.stdin)
    finally:
        signal.signal(signal.SIGINT, before)


def _chosen(
    store: Store, experiment: ExperimentId, spec: ExperimentSpec, choice: EventChoice, *, follow: bool
) -> Iterator[_Numbered]:
    """Yield the entries to show."""
    # Whether a result is the best so far depends on all entries before it.
    finds_bests = EventKind.BESTS in choice.kinds
    table = TrialTable(spec)
    noted: float | None = None

    def fits(numbered: _Numbered) -> bool:
        nonlocal noted
        seq, entry = numbered
        is_best = False
        if finds_bests:
            table.apply(entry)
            metric = None if table.leader is None else table.leader.metric
            is_best = metric is not None and metric != noted and table.improves(metric, noted)
            noted = metric
        if seq <= choice.after or not (choice.trial is None or concerns(entry, choice.trial)):
            return False
        return not choice.kinds or not choice.kinds.isdisjoint(kinds_of(entry, is_best=is_best))

    limit = choice.limit
    for entries in _reads(store, experiment, 0 if finds_bests else choice.after, follow=follow):
        found = filter(fits, entries)
        yield from deque(found, maxlen=limit) if limit else found
        limit = 0


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
        "every decision matches the event log",
        wrap=True,
    )
    if unverified is not None:
        say(f"warning: {unverified}", err=True)
    if is_rebuilt:
        say(f"experiment {experiment}: its state and summary were rebuilt from the event log")


def _reads(store: Store, experiment: ExperimentId, after: Seq, *, follow: bool) -> Iterator[Iterator[_Numbered]]:
    """Yield the entries after ``after``; with ``follow`` also new ones, until the experiment ends or stops."""
    log = store.log(experiment)

    def entries() -> Iterator[_Numbered]:
        nonlocal after
        for seq, entry in log.read(after=after):
            after = seq
            yield seq, entry

    while True:
        # The state is read before the log.  The entry that ended the experiment was committed with the state, so
        # the read below is sure to include it.
        state = store.record(experiment).state
        yield entries()
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
    decided = "; ".join(group.text for group in group_decisions(entry.decisions, spec.unit))
    line = f"{seq:>6}  {at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}  {happened:<52}"
    return " ".join(f"{line}  → {decided}".splitlines()) if decided else " ".join(line.splitlines()).rstrip()


def _short_lines(entries: Iterable[_Numbered], spec: ExperimentSpec, width: int) -> Iterator[str]:
    """Yield lines for a terminal: the date if it changes, each event, and each group of its decisions below it."""
    day = ""
    for seq, entry in entries:
        at = datetime.fromtimestamp(entry.at, UTC).astimezone()
        if f"{at:%Y-%m-%d}" != day:
            day = f"{at:%Y-%m-%d}"
            yield day
        yield cut(" ".join(f"{seq:>6}  {at:%H:%M:%S}  {describe_event(entry.event, spec.unit)}".splitlines()), width)
        worth_showing = [decision for decision in entry.decisions if not is_routine(decision)]
        for group in group_decisions(worth_showing, spec.unit):
            yield from fitted(f"{'':{_INDENT}}→ {brief(group.text, _WIDEST - _INDENT - 2)}")
