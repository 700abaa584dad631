"""All that a record tells, folded at once: what pages, figures and reports are made of."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ashwood.experiment.decisions import Decision
from ashwood.experiment.events import Event, ValidationReported
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.improvements import Improvement
from ashwood.views.progress import Progress
from ashwood.views.timeline import Timeline

STRETCH = 500
"""Where a trial's entries are is known by stretches of so many."""


class Happening(NamedTuple):
    """What happened to a trial, and when; its reports are in its row."""

    at: float
    event: Event


class Chronicle:
    """A fold over log entries, O(log n) each.

    Attributes:
        spec: of the experiment.
        progress: how far it is; the rows of its trials have their reports and decisions.
        timeline: who worked where and when, and each trial's way through the rungs.
        checkpoints: those that are there.
        happenings: what happened to each trial, its reports left out.
        stretches: which stretches of the record, from 0, have entries about a trial or decisions about it, rising.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.progress = Progress(spec, history=True)
        self.timeline = Timeline(spec)
        self.checkpoints = CheckpointTable(spec)
        self.happenings: defaultdict[TrialId, list[Happening]] = defaultdict(list)
        self.stretches: dict[TrialId, array[int]] = {}
        self._entries = 0

    def apply(self, at: float, event: Event, decisions: Sequence[Decision]) -> None:
        """Take an entry."""
        self.progress.apply(at, event, decisions)
        self.timeline.apply(at, event, decisions)
        self.checkpoints.apply(at, event, decisions)
        about = getattr(event, "trial", None)
        if about is not None and not isinstance(event, ValidationReported):
            self.happenings[about].append(Happening(at, event))
        self._note_place(about)
        for decision in decisions:
            self._note_place(getattr(decision, "trial", None))
        self._entries += 1

    def _note_place(self, trial: TrialId | None) -> None:
        if trial is None:
            return
        stretch = self._entries // STRETCH
        known = self.stretches.get(trial)
        if known is None:
            self.stretches[trial] = array("q", [stretch])
        elif known[-1] != stretch:
            known.append(stretch)

    @property
    def improvements(self) -> Sequence[Improvement]:
        """How the best metric became what it is."""
        return self.progress.improvements


def chronicle(spec: ExperimentSpec, record: Iterable[tuple[float, Event, Sequence[Decision]]]) -> Chronicle:
    """Fold the entries of a log, in order."""
    told = Chronicle(spec)
    for at, event, decisions in record:
        told.apply(at, event, decisions)
    return told
