"""``ashwood run`` and ``ashwood resume``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ashwood.cli import job
from ashwood.cli.progress import make_reporter
from ashwood.cli.text import brief, say
from ashwood.cli.where import Where, check_room
from ashwood.config import Loaded, bound_overrides, parse_stop_when, read_experiment, reread_experiment
from ashwood.engine import Home, Session, open_home
from ashwood.engine.control import ask
from ashwood.engine.provenance import check_out, code_elsewhere, collect, differences, dirt, with_workdir
from ashwood.engine.removal import CODE
from ashwood.errors import (
    AshwoodError,
    BackendError,
    ClusterError,
    EventLogError,
    ExperimentBusy,
    MachineError,
    NotFound,
    StorageUnreachable,
)
from ashwood.eventlog.port import ExperimentRecord
from ashwood.experiment.events import RetryFailedRequested, SettingsChanged
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec

_EXIT_CODES = {
    ExperimentState.COMPLETED: 0,
    ExperimentState.STOPPED: 0,
    ExperimentState.ERRORED: 1,
    ExperimentState.PAUSED: 3,
    ExperimentState.CANCELED: 4,
}
_EXIT_TO_MEND = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the command line says of a run, whatever it runs.

    Attributes:
        home: where experiments live; None: where the file says, or the default.
        workers: how many slots to use.
        where: the backend, instead of that of the file or of the recorded experiment.
        overrides: values that go over those of the file.
        stop_when: bounds that go over those of the file, or of the recorded experiment.
        workdir: where the training code of a recorded experiment is from now on.
        share: whether to use GPUs of this machine that other drivers have reserved.
        json: whether to print every event as a line of JSON.
    """

    home: str | None
    workers: int | None = None
    where: Where = field(default_factory=Where)
    overrides: Sequence[str] = ()
    stop_when: Sequence[str] = ()
    workdir: Path | None = None
    share: bool = False
    json: bool = False

    @property
    def all_overrides(self) -> list[str]:
        """The values and bounds that go over those of a file."""
        return [*self.overrides, *bound_overrides(parse_stop_when(self.stop_when)), *self.where.overrides]


def run_file(file: Path, wanted: Run) -> int:
    """Run the experiment of a file; returns the exit code."""
    loaded = _read(file, wanted)
    with open_home(wanted.home or loaded.store, create=True) as opened:
        if (submission := job.submission()) is not None:
            loaded = _read(job.settle(file, opened.path / CODE), wanted)
        return _run_new(opened, _with_provenance(loaded, wanted.all_overrides, submission), wanted)


def resume_experiment(experiment: int, wanted: Run, *, retry_failed: bool = False) -> int:
    """Continue an experiment, and retry trials that failed if that is wanted; return the exit code."""
    with open_home(wanted.home) as opened:
        if retry_failed:
            ask(opened, experiment, RetryFailedRequested())
            if opened.is_driven(experiment):
                say(f"experiment {experiment} is running: its driver retries the trials that failed")
                return 0
        return _resume(opened, experiment, wanted)


def resume_latest_or_run(file: Path | None, wanted: Run) -> int:
    """Go on with the latest unfinished experiment, of a file if one is given; returns the exit code.

    Raises:
        NotFound: no file is given and no experiment is unfinished.
        ExperimentBusy: the file's latest unfinished experiment is running.
    """
    loaded = None if file is None else _read(file, wanted)
    store = None if loaded is None else loaded.store
    with open_home(wanted.home or store, create=loaded is not None) as opened:
        latest = next(_unfinished(opened, loaded), None)
        if latest is None:
            if loaded is None:
                raise NotFound("no experiment is unfinished here; start one with: ashwood run FILE")
            return _run_new(opened, _with_provenance(loaded, wanted.all_overrides), wanted)
        warnings = []
        if loaded is not None and opened.store.spec(latest.id).config_text != loaded.spec.config_text:
            warnings.append(f"{file} has changed since: experiment {latest.id} goes on as it was described")
        if wanted.overrides:
            warnings.append(f"--set has no effect on experiment {latest.id}, which goes on as it was described")
        if file is not None and not Path(opened.store.spec(latest.id).workdir).is_dir():
            wanted = replace(wanted, workdir=file.absolute().parent)
            warnings.append(f"its directory was moved: the training code is in {wanted.workdir} now")
        return _resume(opened, latest.id, wanted, warnings)


def rerun(source: int, wanted: Run, *, checkout: bool) -> int:
    """Run once more what an experiment ran; returns the exit code.

    Raises:
        NotFound: there is no such experiment, or with ``checkout`` no such commit.
        AshwoodError: values are to be set, and it has no file that they could go over.
    """
    with open_home(wanted.home) as opened:
        then = opened.store.spec(source)
        before = list(then.provenance.get("overrides", ()))
        overrides = [*before, *wanted.all_overrides]
        loaded = _once_more(source, then, overrides, wanted)
        spec = loaded.spec
        now = collect(Path(spec.workdir))
        if checkout:
            try:
                workdir, now["git"] = check_out(then.provenance, opened.path / CODE)
            except NotFound as error:
                raise NotFound(f"experiment {source} can't be laid out: {error}") from error
            spec = with_workdir(spec, workdir, root=Path(now["git"]["root"]), prefix=now["git"]["prefix"])
        spec = replace(spec, provenance={**now, "overrides": overrides, "from": source})
        warnings = [f"unlike experiment {source}: {line}" for line in differences(then.provenance, now)]
        if (unrecorded := dirt(now)) is not None:
            warnings.append(unrecorded)
        return _run_new(opened, replace(loaded, spec=spec, warnings=tuple(warnings)), wanted)


# -- what is to run ---------------------------------------------------------------------------------


def _read(file: Path, wanted: Run) -> Loaded:
    return read_experiment(file, overrides=wanted.all_overrides, default_seed=secrets.randbits(31))


def _with_provenance(loaded: Loaded, overrides: Sequence[str], submission: Mapping[str, Any] | None = None) -> Loaded:
    provenance: dict[str, Any] = {**collect(Path(loaded.spec.workdir)), "overrides": list(overrides)}
    if submission is not None:  # the repository stayed where the code was submitted
        provenance.update(git=submission["git"], submitted_from=submission["workdir"])
    unrecorded = dirt(provenance)
    warnings = loaded.warnings if unrecorded is None else (*loaded.warnings, unrecorded)
    return replace(loaded, spec=replace(loaded.spec, provenance=provenance), warnings=warnings)


def _once_more(source: int, then: ExperimentSpec, overrides: Sequence[str], wanted: Run) -> Loaded:
    """A recorded experiment anew: from the text of its file; or as it is, where it was described in Python."""
    if then.config_text:
        return reread_experiment(then, overrides=overrides)
    if wanted.overrides or wanted.stop_when:
        raise AshwoodError(f"experiment {source} was described in Python, so it has no file that values could go over")
    match wanted.where.cluster(then.ray):
        case "recorded":
            return Loaded(then, ())
        case "local":
            return Loaded(replace(then, ray=None), ())
        case cluster:
            return Loaded(replace(then, ray=cluster), ())


def _unfinished(home: Home, like: Loaded | None) -> Iterator[ExperimentRecord]:
    """The experiments that can go on, the latest first; of a file, those that have its name or text."""
    for record in reversed(home.store.experiments()):
        if record.state.ended or record.archived or (like is not None and not _alike(home, record, like)):
            continue
        if not home.is_driven(record.id):
            yield record
        elif like is not None:
            raise ExperimentBusy(f"experiment {record.id} ({brief(record.name, 60)}) is running already")


def _alike(home: Home, record: ExperimentRecord, like: Loaded) -> bool:
    if record.name == like.spec.name:
        return True
    with suppress(EventLogError):  # Another experiment may be damaged.
        return home.store.spec(record.id).config_text == like.spec.config_text
    return False


# -- running ------------------------------------------------------------------------------------------


def _run_new(home: Home, loaded: Loaded, wanted: Run) -> int:
    check_room(loaded, wanted.workers)
    session = Session.create(home, loaded.spec, at=time.time())
    return _drive(session, wanted, loaded.warnings)


def _resume(home: Home, experiment: int, wanted: Run, warnings: Sequence[str] = ()) -> int:
    if bounds := parse_stop_when(wanted.stop_when):
        ask(home, experiment, SettingsChanged(bounds))
    if wanted.workdir is not None:
        if not wanted.workdir.is_dir():
            raise AshwoodError(f"--workdir {wanted.workdir}: there is no such directory")
        with home.lease(experiment):
            home.store.change_spec(experiment, with_workdir(home.store.spec(experiment), wanted.workdir))
    session = Session(home, experiment)
    notes = [home.unverified(experiment), code_elsewhere(session.spec, Path.cwd())]
    return _drive(session, wanted, [*warnings, *(note for note in notes if note is not None)])


def _drive(session: Session, wanted: Run, warnings: Sequence[str]) -> int:
    reporter = make_reporter("json" if wanted.json else "text", session.id, session.spec)
    for warning in warnings:
        reporter.warn(warning)
    try:
        with reporter:
            cluster = wanted.where.cluster(session.spec.ray)
            state = session.run(reporter, workers=wanted.workers, cluster=cluster, share=wanted.share)
    except KeyboardInterrupt:
        if not reporter.running:
            say(f"No trial was started. To continue: {job.called()} resume {session.id}", err=True)
        raise
    except (ClusterError, MachineError) as error:
        raise type(error)(f"{error}\nThen continue with: {job.called()} resume {session.id}") from error
    except StorageUnreachable as error:
        raise StorageUnreachable(
            f"{error}\nNo trial was started or failed. When the storage can be used, continue with: "
            f"{job.called()} resume {session.id}"
        ) from error
    except BackendError as error:
        if "--workdir" in str(error):
            raise
        raise BackendError(
            f"{error}\nMend the training code, then go on with: {job.called()} resume {session.id}\n"
            "(If the mistake is in the experiment file, which is read once, run it anew.)"
        ) from error
    return _EXIT_TO_MEND if reporter.has_to_be_mended else _EXIT_CODES[state]
