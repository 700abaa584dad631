"""Checks whether training code restores all of its state: trains one trial with and without pauses, and compares."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.reservation import Reservation, reserve
from ashwood.backends.port import Command, ContinueAttempt, Finish, StartAttempt
from ashwood.engine.sources import path_without_home
from ashwood.errors import AshwoodError, BackendError
from ashwood.experiment import events as e
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.draw import training_seed
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method
from ashwood.views.agreement import Row, Runs, Verdict, compare, hints_of, verdict_of

_STRETCHES = 4
"""Number of parts into which the training is divided by pauses, if it is long enough."""
_FEWEST_STRETCHES = 3
_MOST_DRAWS = 20
_TRIAL = 0


_MEANING = {
    Verdict.EQUAL: "a trial that is paused and resumed reports the same metrics",
    Verdict.WITHIN_NOISE: "pauses change the metrics at most as much as another seed does",
    Verdict.DIFFERENT: "a trial that is paused and resumed reports different metrics",
    Verdict.FAILED: "the trial failed",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check.

    Attributes:
        verdict: how much pauses change the metrics.
        unit: unit of all lengths.
        pauses: lengths at which the trial was paused.
        hparams: hyperparameters of the trial.
        rows: its metrics without pauses, with pauses, and with another seed.
        hints: what is probably not restored, the likeliest first.
        error: the error if the trial failed, or an empty string.
    """

    verdict: Verdict
    unit: str
    pauses: Sequence[int]
    hparams: Mapping[str, Any]
    rows: Sequence[Row] = ()
    hints: Sequence[str] = ()
    error: str = ""

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {_MEANING[self.verdict]}"]
        if self.pauses:
            lines.append(f"paused at {', '.join(map(str, self.pauses))} {self.unit}")
        return "\n".join([*lines, *(f"- {hint}" for hint in self.hints), *([self.error] if self.error else [])])

    @property
    def ok(self) -> bool:
        """Whether pauses change nothing, or at most as much as another seed does."""
        return self.verdict in (Verdict.EQUAL, Verdict.WITHIN_NOISE)


@dataclass(slots=True)
class _Run:
    """The state of one training of the trial.

    Attributes:
        reports: metrics by length, then by name.
        judged: lengths at which a search would have judged the trial.
        checkpoint: length and name of the latest checkpoint.
        saves: whether a checkpoint was saved.
        reads_checkpoint: whether every process read the checkpoint that it was given.
        invalid: whether the training code declared the hyperparameters invalid.
        ended: whether the training code ended by itself.
    """

    reports: dict[int, dict[str, float]] = field(default_factory=dict)
    judged: list[int] = field(default_factory=list)
    checkpoint: tuple[int, str | None] = (0, None)
    saves: bool = False
    reads_checkpoint: bool = True
    invalid: bool = False
    ended: bool = False


class _Failed(AshwoodError):
    pass


def check(
    spec: ExperimentSpec,
    *,
    length: int | None = None,
    share: bool = False,
    say: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> CheckResult:
    """Train one trial of an experiment three times and compare its reports.

    The first training has no pause.  The second one pauses at up to three lengths and resumes in a new process.  The
    third one has no pause and another seed.  All processes run on this machine, and all files are deleted at the end.

    Args:
        spec: the experiment.  If its metric is empty, any metric counts as a result.
        length: total length to train to; by default the first rung, but at least three validations.
        share: whether to use a GPU that another driver has reserved.
        say: called with a line of progress when a training begins.
        warn: called with a message for the user, for example that the check waits for a GPU.

    Raises:
        AshwoodError: ``length`` is out of range, or the training code accepted none of the hyperparameters.
    """
    shortest = min(bracket.lengths[0] for bracket in plan_search(spec.search).brackets)
    wanted = shortest if length is None else length
    if not 1 <= wanted <= spec.search.max_length:
        raise AshwoodError(f"length must be from 1 to {spec.search.max_length} (max_length), not {wanted}")
    spec = replace(spec, checkpoint_storage=None, source_checkpoint=path_without_home(spec))
    user = f"ashwood check of {spec.name}, process {os.getpid()}"
    with (
        tempfile.TemporaryDirectory(prefix="ashwood-check-") as directory,
        reserve(spec, 1, user, share=share, say=warn, on_wait=lambda what: warn(f"waiting for {what}")) as reservation,
    ):
        fewest = _FEWEST_STRETCHES if length is None else 1
        return _Check(spec, wanted, fewest, Path(directory), reservation, say).result()


class _Check:
    def __init__(
        self,
        spec: ExperimentSpec,
        length: int,
        fewest: int,
        directory: Path,
        reservation: Reservation,
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._length = length
        self._fewest = fewest
        self._directory = directory
        self._reservation = reservation
        self._say = say
        self._hparams: Mapping[str, Any] = {}
        self._seed = 0

    def result(self) -> CheckResult:
        what = "straight through"
        judged: list[int] = []
        try:
            self._say(f"training {what}")
            straight, other_seed = self._first()
            judged = straight.judged
            what = "with pauses"
            self._say(f"training {what} at {', '.join(map(str, judged[:-1])) or 'no length'}")
            resumed = self._train("resumed", self._seed, judged, pauses=True)
            what = "with another seed"
            self._say(f"training {what}")
            other = self._train("other-seed", other_seed, judged)
        except (_Failed, BackendError) as error:
            return CheckResult(Verdict.FAILED, self._spec.unit, judged[:-1], self._hparams, error=f"{what}: {error}")
        runs = Runs(
            straight.reports,
            resumed.reports,
            other.reports,
            judged[:-1],
            reads_checkpoint=resumed.reads_checkpoint,
            saves=resumed.saves,
        )
        rows = compare(runs)
        return CheckResult(verdict_of(rows), self._spec.unit, judged[:-1], self._hparams, rows, hints_of(runs, rows))

    def _first(self) -> tuple[_Run, int]:
        """Return the training without pauses, of the first hyperparameters that are accepted, and another seed."""
        spec = self._spec
        is_grid = spec.search.method is Method.GRID
        draws = min(_MOST_DRAWS, spec.space.grid_size()) if is_grid else _MOST_DRAWS
        for nth in range(draws):
            self._hparams = spec.space.grid_point(nth) if is_grid else spec.space.sample(spec.seed, 0, nth)
            self._seed = training_seed(spec.seed, 0, nth)
            run = self._train(f"straight-{nth}", self._seed, None)
            if not run.invalid:
                return run, training_seed(spec.seed, 0, nth + 1)
        raise AshwoodError(
            f"the training code declared each of {draws} samples of hyperparameters invalid. Check its condition for "
            "invalid hyperparameters, or narrow their ranges"
        )

    def _train(self, name: str, seed: int, stops: Sequence[int] | None, *, pauses: bool = False) -> _Run:
        """Train the trial to the last of ``stops``; if that is None, to the length of the check."""
        run, attempt = _Run(), 0
        while (target := self._next_target(run, stops)) is not None:
            attempt += 1
            before = len(run.judged)
            length, checkpoint = run.checkpoint
            start = StartAttempt(
                _TRIAL, attempt, target, self._hparams, seed, length, checkpoint or self._spec.source_checkpoint
            )
            with LocalBackend(
                self._spec,
                checkpoints=self._directory / name / "checkpoints",
                logs=self._directory / name / "logs",
                workers=1,
                machine=self._reservation.machine,
                locks=self._reservation.inherited,
            ) as backend:
                self._attempt(backend, start, run, stops, pauses=pauses)
            if run.invalid or run.ended or len(run.judged) == before:
                break
        return run

    def _attempt(
        self, backend: LocalBackend, start: StartAttempt, run: _Run, stops: Sequence[int] | None, *, pauses: bool
    ) -> None:
        target = start.target
        backend.dispatch([start])
        while True:
            for event in backend.next_events(None):
                self._note(event, run)
                if isinstance(event, e.AttemptEnded):
                    # If the attempt ended although it should continue, the training code has no loop and trains in one
                    # step.
                    run.ended = run.ended or not pauses
                    return
                if run.invalid or isinstance(event, e.TrialStopped):
                    run.ended = True
                    return
                if isinstance(event, e.ValidationReported) and event.length >= target and self._is_judged(event):
                    run.judged.append(event.length)
                    following = self._next_target(run, stops)
                    target = start.target if following is None else following
                    backend.dispatch([_answer(start, None if pauses else following)])
                    if pauses or following is None:
                        target = 1 << 62  # The attempt must end, so no later report is judged.

    def _next_target(self, run: _Run, stops: Sequence[int] | None) -> int | None:
        """Return the length at which the trial is judged next, or None if it has trained enough."""
        at = run.judged[-1] if run.judged else 0
        if stops is not None:
            return next((stop for stop in stops if stop > at), None)
        stretches = min(self._length, _STRETCHES)
        planned = (-(-self._length * number // stretches) for number in range(1, stretches + 1))
        following = next((stop for stop in planned if stop > at), None)
        if following is None and len(run.judged) < self._fewest and at < self._spec.search.max_length:
            return at + 1
        return following

    def _is_judged(self, event: e.ValidationReported) -> bool:
        if self._spec.metric:
            return self._spec.metric in event.metrics
        return any(not name.startswith(e.TRAINING) for name in event.metrics)

    def _note(self, event: e.Event, run: _Run) -> None:
        match event:
            case e.ValidationReported(length=length, metrics=metrics):
                run.reports.setdefault(length, {}).update(metrics)
            case e.CheckpointSaved(length=length, path=path):
                run.checkpoint, run.saves = (length, path), True
            case e.TrialWarned():
                run.reads_checkpoint = False
            case e.HparamsInvalid():
                run.invalid = True
            case e.AttemptFailed(error=error) | e.StorageFailed(error=error):
                raise _Failed(error)
            case e.CheckpointDamaged(path=path, why=why):
                raise _Failed(f"checkpoint {path} is damaged: {why}")
            case e.AttemptPreempted(why=why):
                raise _Failed(why)


def _answer(start: StartAttempt, target: int | None) -> Command:
    if target is None:
        return Finish(start.trial, start.attempt, save=True)
    return ContinueAttempt(start.trial, start.attempt, target)
