"""What must be true of an experiment that was tortured, judged by evidence that its engine had no hand in."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ashwood.checkpoints.port import parsed
from ashwood.errors import AshwoodError
from ashwood.eventlog.codec import encode_entry
from ashwood.eventlog.fold_cache import fold
from ashwood.experiment.decisions import (
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    DeleteCheckpoint,
    FellBack,
    GaveUp,
    PauseTrial,
    Recovered,
    Retried,
    StopTrial,
    TrainTrial,
)
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptStarted, CheckpointSaved, ValidationReported
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.table import to_json
from tests.eventlog.memory_store import MemoryStore
from tests.torture.training import loss_at

Line = list[Any]
"""Of a diary: trial, attempt, what happened, details."""
Report = tuple[int, int, int]
"""Trial, attempt, length."""

_TERMINAL = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.ERRORED, TrialState.INVALID)


@dataclass
class Evidence:
    """What is left of an experiment.

    Attributes:
        spec: what it is.
        state: where its record says that it stands.
        entries: its log.
        acknowledged: the entries that its drivers said to be recorded, a list a driver.
        diary: what its training code wrote down.
        left: processes that outlived it.
        manual: what a person would have had to do: drivers that gave up by themselves, with their messages.
    """

    spec: ExperimentSpec
    state: str
    entries: list[Entry]
    acknowledged: list[list[dict[str, Any]]]
    diary: list[Line]
    left: list[str] = field(default_factory=list)
    manual: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """What the oracle says.

    Attributes:
        complaints: what isn't as it must be; empty: all is well.
        reports: acknowledged reports.
        lost: acknowledged reports that aren't in the log.
        repeated: epochs that were trained again, as no checkpoint was complete when their process died.
        beyond: those of them that a complete checkpoint held already.
    """

    complaints: list[str]
    reports: int
    lost: int
    repeated: int
    beyond: int


def judge(evidence: Evidence, undisturbed: Evidence, *, ordered: bool) -> Findings:
    """Compare an experiment with what must be true, and with an undisturbed run of its seed.

    Args:
        evidence: of the experiment.
        undisturbed: of the other.
        ordered: it had one worker, so that both must have come to the same end in the same way.
    """
    diary = Diary(evidence.diary)
    checks: list[Callable[[], Iterator[str]]] = [
        lambda: iter(evidence.manual),
        lambda: (f"left behind: {process}" for process in evidence.left),
        lambda: _ended(evidence),
        lambda: _acknowledged(evidence),
        lambda: _reports(evidence, diary),
        lambda: _times(evidence),
        lambda: _attempts(evidence, diary),
        lambda: _kept(evidence),
        lambda: _trials(evidence, undisturbed),
        lambda: _same_way(evidence, undisturbed) if ordered else iter(()),
    ]
    acknowledged = {key for session in evidence.acknowledged for entry in session if (key := _report(entry["event"]))}
    recorded = {key for entry in evidence.entries if (key := _report(_event(entry)))}
    return Findings(
        complaints=[complaint for check in checks for complaint in check()],
        reports=len(acknowledged),
        lost=len(acknowledged - recorded),
        repeated=diary.repeated,
        beyond=sum(max(0, start.latest - start.length) for start in diary.starts),
    )


# -- the record ---------------------------------------------------------------------------------


def _ended(evidence: Evidence) -> Iterator[str]:
    store = MemoryStore()
    log = store.log(store.create(evidence.spec, at=0.0))
    log.append(evidence.entries)
    try:
        experiment = fold(evidence.spec, log).experiment
    except AshwoodError as error:
        yield f"replay fails: {error}"
        return
    if experiment.state != evidence.state:
        yield f"the log leads to {experiment.state}, the record says {evidence.state}"
    if evidence.state != "completed":
        yield f"the experiment is {evidence.state}"
        return
    for trial in experiment.trials.values():
        if trial.state not in _TERMINAL:
            yield f"trial {trial.id} is {trial.state} although the experiment is over"


def _acknowledged(evidence: Evidence) -> Iterator[str]:
    """What each driver acknowledged stands in the log, in one piece, once, in the order of the drivers."""
    recorded = [_text(_object(entry)) for entry in evidence.entries]
    at = 0
    for number, session in enumerate(evidence.acknowledged):
        said = [_text(entry) for entry in session]
        if not said:
            continue
        try:
            at = recorded.index(said[0], at)
        except ValueError:
            yield f"driver {number}: what it acknowledged first is lost: {said[0]}"
            continue
        for line in said:
            if at >= len(recorded) or recorded[at] != line:
                there = recorded[at] if at < len(recorded) else "nothing"
                yield f"driver {number} acknowledged {line}, entry {at + 1} of the log is {there}"
                break
            at += 1


def _times(evidence: Evidence) -> Iterator[str]:
    latest = -math.inf
    for seq, entry in enumerate(evidence.entries, start=1):
        if entry.at < latest:
            yield f"entry {seq} is {latest - entry.at:.6f} s older than the one before it"
        latest = max(latest, entry.at)


def _reports(evidence: Evidence, diary: "Diary") -> Iterator[str]:
    """Each report is recorded at most once, and none that was not made."""
    odd = bool(evidence.spec.data["odd"])
    trials = {decision.trial: decision for decision in _created(evidence)}
    seen: set[Report] = set()
    for entry in evidence.entries:
        if not isinstance(event := entry.event, ValidationReported):
            continue
        key = (event.trial, event.attempt, event.length)
        if key in seen:
            yield f"report {key} is recorded twice"
        seen.add(key)
        # What an earlier attempt saved and no driver recorded counts as a report of the one that follows.
        if not any((event.trial, attempt, event.length) in diary.reports for attempt in range(1, event.attempt + 1)):
            yield f"report {key} is recorded, but no training code made it"
        created = trials[event.trial]
        expected = loss_at(created.hparams, created.seed, event.length, odd=odd)
        if _text(event.metrics["loss"]) != _text(expected):
            yield f"report {key} is {event.metrics['loss']}, but training gives {expected} there"


# -- training -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """A process began to train: which attempt, from where, and where the latest complete checkpoint was."""

    trial: int
    attempt: int
    length: int
    latest: int


class Diary:
    """What training code wrote down.

    Attributes:
        starts: in order of time.
        reports: that were made, whether anybody heard of them or not.
        repeated: epochs that were trained more than once.
        complaints: what shows in the diary itself.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self.starts: list[Start] = []
        self.reports: set[Report] = set()
        self.repeated = 0
        self.complaints: list[str] = []
        current: dict[int, int] = {}
        trained: defaultdict[int, int] = defaultdict(int)
        for trial, attempt, what, *details in lines:
            match what:
                case "overlap":
                    self.complaints.append(f"trial {trial}: attempt {attempt} began while another process was at it")
                case "start":
                    if attempt <= current.get(trial, 0):
                        self.complaints.append(f"trial {trial}: attempt {attempt} began after {current[trial]}")
                    current[trial] = attempt
                    self.starts.append(Start(trial, attempt, *details))
                case "report":
                    self.reports.add((trial, attempt, details[0]))
                case "step":
                    self.repeated += details[0] <= trained[trial]
                    trained[trial] = max(trained[trial], details[0])
            if attempt < current.get(trial, 0):
                self.complaints.append(f"trial {trial}: attempt {attempt} goes on beside {current[trial]}: {what}")


def _attempts(evidence: Evidence, diary: Diary) -> Iterator[str]:
    """No two processes of a trial at once, and each starts from the latest complete checkpoint.

    A checkpoint that is deleted to keep max_size can be on the disk for a moment after this was decided.
    """
    yield from diary.complaints
    recorded = {(e.trial, e.attempt): e.length for e in _events(evidence, AttemptStarted)}
    lengths = {(start.trial, start.attempt): start.length for start in diary.starts}
    deleted = {
        parsed(decision.path)[:2]
        for entry in evidence.entries
        for decision in entry.decisions
        if isinstance(decision, DeleteCheckpoint) and decision.why is not None
    }
    for start in diary.starts:
        if start.length != start.latest and (start.trial, start.latest) not in deleted:
            yield (
                f"trial {start.trial}: attempt {start.attempt} starts at {start.length}, "
                f"though a checkpoint at {start.latest} was complete"
            )
    for key, length in recorded.items():
        # A process that died before its training code wrote a line has none.
        if lengths.get(key, length) != length:
            yield f"attempt {key} is recorded to start at {length}, training code says {lengths[key]}"


def _kept(evidence: Evidence) -> Iterator[str]:
    """What a trial goes on from was not deleted before, except to keep max_size."""
    saved: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for entry in evidence.entries:
        match entry.event:
            case CheckpointSaved(trial=trial, length=length, path=path):
                saved[trial][path] = length
            case AttemptStarted(trial=trial, attempt=attempt, length=length):
                if length < (latest := max(saved[trial].values(), default=0)):
                    yield f"trial {trial}: attempt {attempt} starts at {length}, though {latest} had been saved"
        for decision in entry.decisions:
            if isinstance(decision, DeleteCheckpoint):
                lengths = saved[decision.trial]
                if decision.why is not None or lengths[decision.path] < max(lengths.values()):
                    del lengths[decision.path]


# -- beside the undisturbed run -----------------------------------------------------------------


def _trials(evidence: Evidence, undisturbed: Evidence) -> Iterator[str]:
    """The same hyperparameters and seeds, whatever the order."""
    ours, theirs = (
        {(d.bracket, d.nth): _text([d.hparams, d.seed]) for d in _created(each)} for each in (evidence, undisturbed)
    )
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            yield f"trial {key} (bracket, nth) is {ours.get(key)}, undisturbed {theirs.get(key)}"
    if len(_created(evidence)) != len(ours):
        yield "a trial was created twice"


def _same_way(evidence: Evidence, undisturbed: Evidence) -> Iterator[str]:
    """The same verdicts with the same reasons in the same order, as only the processes differ."""
    ours, theirs = _verdicts(evidence), _verdicts(undisturbed)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        if mine != other:
            yield f"verdict {number} is {mine}, undisturbed {other}"
            return
    if len(ours) != len(theirs):
        more = (ours if len(ours) > len(theirs) else theirs)[min(len(ours), len(theirs))]
        yield f"{len(ours)} verdicts, undisturbed {len(theirs)}; the first that one of them lacks: {more}"


def _verdicts(evidence: Evidence) -> list[tuple[Any, ...]]:
    """What the search decided, whatever processes carried it out."""
    verdicts: list[tuple[Any, ...]] = []
    for entry in evidence.entries:
        for decision in entry.decisions:
            match decision:
                case CreateTrial(trial=trial, target=target, why=why):
                    verdicts.append(("train", trial, target, str(why)))
                case TrainTrial(trial=trial, target=target, why=why) if not isinstance(
                    why, Recovered | Retried | FellBack
                ):
                    verdicts.append(("train", trial, target, str(why)))
                case ContinueTrial(trial=trial, target=target, why=why):
                    verdicts.append(("train", trial, target, str(why)))
                case PauseTrial(trial=trial, why=why) | CompleteTrial(trial=trial, why=why):
                    verdicts.append((type(decision).__name__, trial, str(why)))
                case CloseTrial(trial=trial, why=GaveUp()):
                    # A process that was killed is one failure more.
                    verdicts.append(("CloseTrial", trial, "gave up"))
                case StopTrial(trial=trial, why=why) | CloseTrial(trial=trial, why=why):
                    verdicts.append((type(decision).__name__, trial, str(why)))
    return verdicts


def differences(one: Sequence[Entry], other: Sequence[Entry]) -> Iterator[str]:
    """Where two logs of one seed and one worker differ, times and directories aside."""
    ours, theirs = ([_text(_timeless(entry)) for entry in entries] for entries in (one, other))
    for seq, (mine, their) in enumerate(zip(ours, theirs, strict=False), start=1):
        if mine != their:
            yield f"entry {seq} is {mine}, in the other run {their}"
    if len(ours) != len(theirs):
        yield f"{len(ours)} entries, {len(theirs)} in the other run"


# -- entries as plain data ----------------------------------------------------------------------


def _created(evidence: Evidence) -> list[CreateTrial]:
    return [d for entry in evidence.entries for d in entry.decisions if isinstance(d, CreateTrial)]


def _events(evidence: Evidence, kind: type) -> Iterator[Any]:
    return (entry.event for entry in evidence.entries if isinstance(entry.event, kind))


def _object(entry: Entry) -> dict[str, Any]:
    """An entry as drivers print it."""
    return {"at": entry.at, **to_json(json.loads(encode_entry(entry)))}


def _event(entry: Entry) -> dict[str, Any]:
    event: dict[str, Any] = _object(entry)["event"]
    return event


def _timeless(entry: Entry) -> dict[str, Any]:
    if isinstance(entry.event, CheckpointSaved):
        entry = entry._replace(event=entry.event._replace(path=""))
    return _object(entry._replace(at=0.0))


def _report(event: Mapping[str, Any]) -> Report | None:
    return (event["trial"], event["attempt"], event["length"]) if event["is"] == "ValidationReported" else None


def _text(data: Any) -> str:
    return json.dumps(data, sort_keys=True)
