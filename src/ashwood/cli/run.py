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
from ashwood.cli.where import BackendOptions, check_room
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
_EXIT_NEEDS_FIX = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of ``ashwood run`` and ``ashwood resume``.

    Attributes:
        home: home of the experiments, or None for that of the file or the default.
        workers: number of slots to use.
        where: backend that replaces that of the file or of the recorded experiment.
        overrides: values that replace those of the file.
        stop_when: goal and time limit that replace those of the file or of the recorded experiment.
        workdir: new directory of the training code of a recorded experiment.
        share: whether to use GPUs of this machine that other drivers have reserved.
        json: whether to print one line of JSON per event.
    """

    home: str | None
    workers: int | None = None
    where: BackendOptions = field(default_factory=BackendOptions)
    overrides: Sequence[str] = ()
    stop_when: Sequence[str] = ()
    workdir: Path | None = None
    share: bool = False
    json: bool = False

    @property
    def all_overrides(self) -> list[str]:
        """The values, goal and time limit that replace those of a file."""
        return [*self.overrides, *bound_overrides(parse_stop_when(self.stop_when)), *self.where.overrides]


def run_file(file: Path, options: RunOptions) -> int:
    """Run the experiment of a file, and return the exit code."""
    loaded = _read(file, options)
    with open_home(options.home or loaded.store, create=True) as opened:
        if (submission := job.submission()) is not None:
            loaded = _read(job.copy_work_directory(file, opened.path / CODE), options)
        return _run_new(opened, _with_provenance(loaded, options.all_overrides, submission), options)


def resume_experiment(experiment: int, options: RunOptions, *, retry_failed: bool = False) -> int:
    """Resume an experiment, and return the exit code; ``retry_failed`` also retries its failed trials."""
    with open_home(options.home) as opened:
        if retry_failed:
            ask(opened, experiment, RetryFailedRequested())
            if opened.is_driven(experiment):
                say(f"experiment {experiment} is running: its driver retries the failed trials")
                return 0
        return _resume(opened, experiment, options)


def resume_latest_or_run(file: Path | None, options: RunOptions) -> int:
    """Resume the latest unfinished experiment (of a file), or run the file if there is none; return the exit code.

    Raises:
        NotFound: no file is given and no experiment is unfinished.
        ExperimentBusy: the file's latest unfinished experiment is running.
    """
    loaded = None if file is None else _read(file, options)
    store = None if loaded is None else loaded.store
    with open_home(options.home or store, create=loaded is not None) as opened:
        latest = next(_unfinished(opened, loaded), None)
        if latest is None:
            if loaded is None:
                raise NotFound("no experiment is unfinished here; start one with: ashwood run FILE")
            return _run_new(opened, _with_provenance(loaded, options.all_overrides), options)
        warnings = []
        if loaded is not None and opened.store.spec(latest.id).config_text != loaded.spec.config_text:
            warnings.append(f"{file} has changed: experiment {latest.id} continues with its recorded configuration")
        if options.overrides:
            warnings.append(f"--set has no effect: experiment {latest.id} continues with its recorded configuration")
        if file is not None and not Path(opened.store.spec(latest.id).workdir).is_dir():
            options = replace(options, workdir=file.absolute().parent)
            warnings.append(f"the recorded directory does not exist; the training code is taken from {options.workdir}")
        return _resume(opened, latest.id, options, warnings)


def rerun(source: int, options: RunOptions, *, checkout: bool) -> int:
    """Run the configuration of an experiment again as a new one, and return the exit code.

    Raises:
        NotFound: there is no such experiment or, with ``checkout``, no such commit.
        AshwoodError: values are given, but the experiment has no file whose values they could replace.
    """
    with open_home(options.home) as opened:
        then = opened.store.spec(source)
        before = list(then.provenance.get("overrides", ()))
        overrides = [*before, *options.all_overrides]
        loaded = _once_more(source, then, overrides, options)
        spec = loaded.spec
        now = collect(Path(spec.workdir))
        if checkout:
            try:
                workdir, now["git"] = check_out(then.provenance, opened.path / CODE)
            except NotFound as error:
                raise NotFound(f"cannot check out the code of experiment {source}: {error}") from error
            spec = with_workdir(spec, workdir, root=Path(now["git"]["root"]), prefix=now["git"]["prefix"])
        spec = replace(spec, provenance={**now, "overrides": overrides, "from": source})
        warnings = [f"unlike experiment {source}: {line}" for line in differences(then.provenance, now)]
        if (unrecorded := dirt(now)) is not None:
            warnings.append(unrecorded)
        return _run_new(opened, replace(loaded, spec=spec, warnings=tuple(warnings)), options)


# -- configuration ----------------------------------------------------------------------------------


def _read(file: Path, options: RunOptions) -> Loaded:
    return read_experiment(file, overrides=options.all_overrides, default_seed=secrets.randbits(31))


def _with_provenance(loaded: Loaded, overrides: Sequence[str], submission: Mapping[str, Any] | None = None) -> Loaded:
    provenance: dict[str, Any] = {**collect(Path(loaded.spec.workdir)), "overrides": list(overrides)}
    if submission is not None:  # The job has no Git repository, so the submitting machine collected this.
        provenance.update(git=submission["git"], submitted_from=submission["workdir"])
    unrecorded = dirt(provenance)
    warnings = loaded.warnings if unrecorded is None else (*loaded.warnings, unrecorded)
    return replace(loaded, spec=replace(loaded.spec, provenance=provenance), warnings=warnings)


def _once_more(source: int, then: ExperimentSpec, overrides: Sequence[str], options: RunOptions) -> Loaded:
    """Return the configuration of a recorded experiment, read again from the text of its file if there is one."""
    if then.config_text:
        return reread_experiment(then, overrides=overrides)
    if options.overrides or options.stop_when:
        raise AshwoodError(
            f"experiment {source} was defined in Python and has no file, so --set and --stop-when cannot change it"
        )
    match options.where.cluster(then.ray):
        case "recorded":
            return Loaded(then, ())
        case "local":
            return Loaded(replace(then, ray=None), ())
        case cluster:
            return Loaded(replace(then, ray=cluster), ())


def _unfinished(home: Home, like: Loaded | None) -> Iterator[ExperimentRecord]:
    """Yield the experiments that can be resumed, the latest first; with ``like``, only those with its name or text.

    Raises:
        ExperimentBusy: such an experiment is running, and ``like`` is given.
    """
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
    with suppress(EventLogError):  # A damaged experiment must not keep others from being resumed.
        return home.store.spec(record.id).config_text == like.spec.config_text
    return False


# -- running ------------------------------------------------------------------------------------------


def _run_new(home: Home, loaded: Loaded, options: RunOptions) -> int:
    check_room(loaded, options.workers)
    session = Session.create(home, loaded.spec, at=time.time())
    return _drive(session, options, loaded.warnings)


def _resume(home: Home, experiment: int, options: RunOptions, warnings: Sequence[str] = ()) -> int:
    if bounds := parse_stop_when(options.stop_when):
        ask(home, experiment, SettingsChanged(bounds))
    if options.workdir is not None:
        if not options.workdir.is_dir():
            raise AshwoodError(f"--workdir {options.workdir}: there is no such directory")
        with home.lease(experiment):
            home.store.change_spec(experiment, with_workdir(home.store.spec(experiment), options.workdir))
    session = Session(home, experiment)
    notes = [home.unverified(experiment), code_elsewhere(session.spec, Path.cwd())]
    return _drive(session, options, [*warnings, *(note for note in notes if note is not None)])


def _drive(session: Session, options: RunOptions, warnings: Sequence[str]) -> int:
    reporter = make_reporter("json" if options.json else "text", session.id, session.spec)
    for warning in warnings:
        reporter.warn(warning)
    try:
        with reporter:
            cluster = options.where.cluster(session.spec.ray)
            state = session.run(reporter, workers=options.workers, cluster=cluster, share=options.share)
    except KeyboardInterrupt:
        if not reporter.running:
            say(f"No trial was started. To continue: {job.command_prefix()} resume {session.id}", err=True)
        raise
    except (ClusterError, MachineError) as error:
        raise type(error)(f"{error}\nThen continue with: {job.command_prefix()} resume {session.id}") from error
    except StorageUnreachable as error:
        raise StorageUnreachable(
            f"{error}\nNo trial was started or failed. When the storage can be used, continue with: "
            f"{job.command_prefix()} resume {session.id}"
        ) from error
    except BackendError as error:
        if "--workdir" in str(error):
            raise
        raise BackendError(
            f"{error}\nFix the training code, then continue with: {job.command_prefix()} resume {session.id}\n"
            "(If the error is in the experiment file, correct the file and run it again: resume does not read it.)"
        ) from error
    return _EXIT_NEEDS_FIX if reporter.needs_fix else _EXIT_CODES[state]
