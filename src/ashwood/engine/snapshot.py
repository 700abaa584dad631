"""A folded log, kept beside the home so that a resumed experiment needn't fold it all again.

A snapshot is a cache: whatever is wrong with it, or with its fit to the log and to this version of
Ashwood, the log is folded from its beginning instead.  It holds pickles, so it is read from the
driver's own directory alone, never from a store that others write to.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ashwood.errors import IllegalEvent, ReplayDivergence
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import Entry, EventLog, Seq
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.progress import Progress

_DIGEST = 32
_ENTRIES_A_BEAT = 1_000
_FOLDING_ROOMS = ("search", "experiment", "views")


class Folded(NamedTuple):
    """What a log leads to.

    Attributes:
        seq: the place of the last entry that was folded.
        last: that entry; None: the log is empty.
    """

    experiment: Experiment
    progress: Progress
    seq: Seq
    last: Entry | None


def fold(
    spec: ExperimentSpec,
    log: EventLog,
    snapshot: Path | None = None,
    *,
    beat: Callable[[], None] = lambda: None,
) -> Folded:
    """Fold a log, from a snapshot on where one fits, and check that the search decides what was recorded.

    ``beat`` is called now and then: a long log takes longer than a driver may be silent.

    Raises:
        EventLogError: the log is damaged; the message names the entry.
        ReplayDivergence: a recorded decision isn't what the search decides; the message names the entry.
    """
    folded = (snapshot and _load(snapshot, log)) or Folded(Experiment(spec), Progress(spec), 0, None)
    experiment, progress, seq, last = folded
    for seq, last in log.read(after=folded.seq):
        check_entry(experiment, seq, last)
        progress.apply(*last)
        if seq % _ENTRIES_A_BEAT == 0:
            beat()
    progress.search = experiment.search
    return Folded(experiment, progress, seq, last)


def check_entry(experiment: Experiment, seq: Seq, entry: Entry) -> None:
    """Let an experiment handle a recorded event, and compare what it decides with what was recorded.

    Raises:
        ReplayDivergence: it decides otherwise, or the event can't have happened.
    """
    try:
        decisions = experiment.handle(entry.event)
    except IllegalEvent as error:
        raise ReplayDivergence(f"entry {seq} of the log can't follow those before it: {error}") from error
    # Text settles what equality can't: NaN, and tuples that came back as lists.
    if decisions != entry.decisions and encode_entry(entry._replace(decisions=decisions)) != encode_entry(entry):
        raise ReplayDivergence(
            f"entry {seq} of the log records other decisions than this version of Ashwood takes: "
            f"recorded {entry.decisions}, now {decisions}"
        )


def save(path: Path, folded: Folded) -> None:
    """Keep a snapshot; where that fails, there is none."""
    if folded.last is None:
        return
    body = pickle.dumps(
        (_rules(), folded.seq, _identity(folded.last), folded.experiment, folded.progress),
        protocol=pickle.HIGHEST_PROTOCOL,
    )
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_bytes(hashlib.blake2b(body, digest_size=_DIGEST).digest() + body)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):  # half of one would only take up room
            fresh.unlink(missing_ok=True)


def _identity(entry: Entry) -> tuple[float, str]:
    """Tells an entry from those at its place in other logs."""
    return entry.at, encode_entry(entry)


def _load(path: Path, log: EventLog) -> Folded | None:
    try:
        data = path.read_bytes()
        digest, body = data[:_DIGEST], data[_DIGEST:]
        if hashlib.blake2b(body, digest_size=_DIGEST).digest() != digest:
            return None
        rules, seq, identity, experiment, progress = pickle.loads(body)  # noqa: S301 - our own file, and unchanged
    except (OSError, ValueError, pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError):
        return None
    if rules != _rules():
        return None
    # A log that was restored from a backup may be shorter, or have gone on otherwise.
    last = next((entry for _, entry in log.read(after=seq - 1)), None)
    if last is None or _identity(last) != identity:
        return None
    return Folded(experiment, progress, seq, last)


@cache
def _rules() -> bytes:
    """Tells the code that folds logs from every other version of it."""
    import ashwood

    digest = hashlib.blake2b(digest_size=16)
    for room in _FOLDING_ROOMS:
        for file in sorted(Path(ashwood.__file__).parent.joinpath(room).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()
