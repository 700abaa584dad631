"""Reporters: the output of a running experiment for a log file or a program; `ashwood.terminal.live` has the display.

Reporters do not write themselves: a thread does. So nothing is written while a lock is held or in a signal handler,
and a terminal or pipe that isn't read can't block the driver.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.decisions import (
    Asked,
    CloseTrial,
    GaveUp,
    LeaveExperiment,
    TrialTimeIsUp,
    Warn,
)
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptFailed, CapacityChanged
from ashwood.experiment.failures import VARIES
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.time_left import Forecaster
from ashwood.search.vocabulary import TrialId
from ashwood.terminal.messages import (
    LONGEST_ERROR,
    best_so_far,
    clock_time,
    closing,
    interruption,
    leaving,
    needs_fix,
    opening,
    status_line,
)
from ashwood.terminal.text import brief, cut
from ashwood.terminal.writer import Writer
from ashwood.views.progress import Progress
from ashwood.views.table import to_json
from ashwood.views.wording import format_capacity

_DETAIL_LINES = 25
_SECONDS_BETWEEN_LINES = 10.0
_JOIN_SECONDS = 2.0
"""Seconds to wait for more workers after some have joined."""
_MOST_REASONS = 3


class Reporter:
    """A reporter that writes nothing, the base class of all reporters.  It is a context manager around the run.

    Attributes:
        progress: progress of the experiment.
        forecaster: forecasts of the time left.
        running: whether trials have started.
        when_ready: function that the writer's thread calls when trials start, or None.
    """

    when_ready: Callable[[], object] | None = None

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        self.id = experiment
        self.spec = spec
        self.progress = Progress(spec)
        self.forecaster = Forecaster(self.progress)
        self.running = False
        self._seen_warnings: set[str] = set()
        self._seen_errors: set[str] = set()
        self._final_errors: set[str] = set()
        self._showed_trial_time = False
        self._capacity = CapacityMessages()
        # The live display draws in a thread of its own.
        self._lock = threading.Lock()

    @cached_property
    def writer(self) -> Writer:
        """The thread that writes the output while the context is active."""
        return Writer()

    def write(self, message: str, style: str = "", *, err: bool = False) -> None:
        """Write a message; ``err`` is for messages that are not a part of the normal output."""

    def __enter__(self) -> Self:
        self.writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.write(closing(self.id, self.progress))
        self.writer.close()

    def folded(self, progress: Progress) -> None:
        """Receive the progress that was folded from the event log so far."""
        with self._lock:
            self.progress = progress
            self.forecaster = Forecaster(progress)

    def observe(self, entries: Sequence[Entry]) -> None:
        """Process entries that were committed to the event log."""
        with self._lock:
            for entry in entries:
                self.progress.apply(entry)
                if self.running:
                    self._show(entry)
            if self.running and self.progress.state is ExperimentState.RUNNING:
                self._show_capacity(entries)
            # Not when the display is drawn, because a display thread must not read the search while it changes.
            self.forecaster.look(entries[-1].at)

    def summary(self) -> Mapping[str, Any]:
        """Return the summary that the list of experiments shows."""
        with self._lock:
            return self.forecaster.summary(time.time())

    def ready(self, slots: int) -> None:
        """Record that the backend has ``slots`` slots and trials start now."""
        self.running = True
        if self.when_ready is not None:
            self.writer.call(self.when_ready)
        self._capacity.began(slots)
        self.write(opening(self.id, self.progress, slots))

    def interrupted(self, count: int) -> None:
        """Show what the ``count``-th Ctrl-C does.  A signal handler calls this."""
        self.write(interruption(count), "yellow", err=True)

    def warn(self, message: str) -> None:
        """Show a warning, unless the same one was shown before."""
        if message not in self._seen_warnings:
            self._seen_warnings.add(message)
            self.write(f"warning: {message}", "yellow", err=True)

    @property
    def needs_fix(self) -> bool:
        """Whether the experiment paused for a reason that must be fixed before it is resumed."""
        return needs_fix(self.progress)

    def _show(self, entry: Entry) -> None:
        for decision in entry.decisions:
            match decision:
                case Warn(message):
                    self.warn(message)
                case CloseTrial(trial, _, GaveUp() as why):
                    self._show_final_failure(trial, why)
                case CloseTrial(trial, _, TrialTimeIsUp() as why) if not self._showed_trial_time:
                    self._showed_trial_time = True
                    self.write(f"trial {trial} stopped: {why} (shown only for the first such trial)", "bold")
                # After a signal, `interrupted` has already shown a message.
                case LeaveExperiment(state, reason) if not (isinstance(reason, Asked) and reason.by):
                    self.write(leaving(state, reason), "bold")
        if isinstance(entry.event, AttemptFailed) and not self._was_killed(entry.event.trial):
            self._show_failure(entry.event)

    def _show_capacity(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry.event, CapacityChanged):
                self._capacity.note(entry.at, entry.event)
        if (news := self._capacity.news(entries[-1].at)) is not None:
            self.write(news, "bold")

    def _was_killed(self, trial: TrialId) -> bool:
        """Return whether the user killed the trial or the experiment: then its process is expected to fail."""
        killed = self.progress.trials.rows[trial].state is TrialState.KILLED
        return killed or self.progress.state in (ExperimentState.STOPPING, ExperimentState.CANCELED)

    def _show_failure(self, event: AttemptFailed) -> None:
        """Show the failure of an attempt, unless another trial failed with the same error: hundreds may."""
        error = event.error.partition("\n")[0]
        if (kind := _kind_of(error)) not in self._seen_errors:
            self._seen_errors.add(kind)
            see = f"ashwood logs {self.id} {event.trial}"
            self.warn(f"trial {event.trial} failed: {brief(error, LONGEST_ERROR)} (see: {see})")

    def _show_final_failure(self, trial: TrialId, why: GaveUp) -> None:
        """Show why a trial is not retried, with the last lines of its error, once for each error."""
        errors = self.progress.trials.rows[trial].errors or ["it exited before it had trained to the length of its job"]
        error, _, details = errors[-1].partition("\n")
        if (kind := _kind_of(error)) not in self._final_errors:
            self._final_errors.add(kind)
            self._seen_errors.add(kind)
            lines = details.rstrip().splitlines()[-_DETAIL_LINES:]
            quoted = "".join(f"\n  | {cut(line, LONGEST_ERROR)}" for line in lines)
            self.warn(f"trial {trial} {why} and will not be retried: {brief(error, LONGEST_ERROR)}{quoted}")


def _kind_of(error: str) -> str:
    """Return an error without numbers, which differ between trials that fail for the same cause."""
    return VARIES.sub("#", error)


class PlainReporter(Reporter):
    """A reporter of lines for a log file: the start, each trial that takes the lead, the progress, and the end.

    A trial that improves its own best result causes no line.  The progress is reported every 10 s.
    """

    def __init__(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        super().__init__(experiment, spec)
        self._leader: TrialId | None = None
        self._shown_bests: set[tuple[TrialId, float]] = set()
        self._next_line: float | None = None

    def write(self, message: str, style: str = "", *, err: bool = False) -> None:  # noqa: ARG002 lines have no style
        self.writer.echo(message, err=err)

    def ready(self, slots: int) -> None:
        super().ready(slots)
        self._leader = None if self.progress.best is None else self.progress.best.trial

    def _show(self, entry: Entry) -> None:
        super()._show(entry)
        best, seen = self.progress.best, self.progress.describe_seen()
        # Before the checkpoint of a new leader is saved, the lead can return to the former one for a moment.
        if (
            best is not None
            and best.trial != self._leader
            and (shown := (best.trial, best.metric)) not in self._shown_bests
        ):
            self._leader = best.trial
            self._shown_bests.add(shown)
            result = best_so_far(self.progress)
            self.write(f"{clock_time(entry.at)}  best so far: {result}{'' if seen is None else f'; {seen}'}")
        if self._next_line is None:
            self._next_line = entry.at + _SECONDS_BETWEEN_LINES
        if entry.at >= self._next_line and not self.writer.is_far_behind:
            self._next_line = entry.at + _SECONDS_BETWEEN_LINES
            self.write(f"{clock_time(entry.at)}  {status_line(self.forecaster, entry.at)}")


class JsonReporter(Reporter):
    """A reporter of one line of strict JSON per event, with warnings on standard error."""

    def write(self, message: str, style: str = "", *, err: bool = False) -> None:  # noqa: ARG002 lines have no style
        if err:
            self.writer.echo(message, err=True)

    def ready(self, slots: int) -> None:
        super().ready(slots)
        self.writer.echo(json.dumps({"experiment": self.id, "name": self.spec.name, "slots": slots}))

    def _show(self, entry: Entry) -> None:
        super()._show(entry)
        self.writer.echo(json.dumps({"at": entry.at, **to_json(json.loads(encode_entry(entry)))}))


class CapacityMessages:
    """A collector that combines changes of capacity into few messages: the workers of a new node join one by one.

    The loss of a node or of the last worker is reported at once: no other event may follow for a long time.
    """

    def __init__(self) -> None:
        self._reported: tuple[int, Mapping[str, int]] = (0, {})
        self._latest: CapacityChanged | None = None
        self._reasons: dict[str, None] = {}
        self._due = 0.0

    def began(self, slots: int) -> None:
        """Set the number of workers that was shown when the run began."""
        self._reported = (slots, {})

    def note(self, at: float, event: CapacityChanged) -> None:
        """Record a change of the capacity; ``at`` is its time."""
        known = self._reported[1] if self._latest is None else self._latest.nodes
        if not event.slots or not known.keys() <= event.nodes.keys():
            self._due = at
        elif self._latest is None:
            self._due = at + _JOIN_SECONDS
        self._latest = event
        if event.why:
            self._reasons[event.why] = None

    def news(self, at: float) -> str | None:
        """Return the message about changed capacity that is due, or None."""
        if self._latest is None or at < self._due:
            return None
        slots, nodes, _ = self._latest
        changed = (slots, nodes) != self._reported
        reasons = list(self._reasons)
        more = len(reasons) - _MOST_REASONS
        why = "; ".join([*reasons[:_MOST_REASONS], *([f"and {more} more changes"] if more > 0 else [])])
        self._reported, self._latest, self._reasons = (slots, nodes), None, {}
        # If a worker was replaced in the meantime, the capacity is the same and there is nothing to report.
        return format_capacity(slots, len(nodes), why) if changed else None
