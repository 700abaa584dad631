"""``ashwood run``, ``resume`` and ``activate``."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ashwood.api.background import check_can_start, start_driver
from ashwood.api.slots import check_room
from ashwood.cli import frames, where
from ashwood.cli.options import BackendKind, DriverOptions, RunOptions
from ashwood.config import (
    Loaded,
    bound_overrides,
    parse_stop_when,
    read_experiment,
    read_fork,
    reread_experiment,
)
from ashwood.engine import Home, Session, open_home
from ashwood.engine.control import ask
from ashwood.engine.provenance import check_out, code_elsewhere, collect, differences, dirt, with_workdir
from ashwood.engine.removal import CODE
from ashwood.engine.session import Cluster
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
from ashwood.experiment.spec import SOURCE, ExperimentSpec, RayCluster
from ashwood.terminal.live import make_reporter
from ashwood.terminal.messages import LONGEST_NAME, command_prefix
from ashwood.terminal.text import brief, say

EXIT_CODES = {
    ExperimentState.COMPLETED: 0,
    ExperimentState.STOPPED: 0,
    ExperimentState.ERRORED: 1,
    ExperimentState.PAUSED: 3,
    ExperimentState.CANCELED: 4,
}
"""Exit code of a command that ran an experiment, for the state in which it ended or paused."""
EXIT_NEEDS_FIX = 1


def run_file(file: Path, options: RunOptions, overrides: Sequence[str]) -> int:
    """Run the experiment of a file, and return the exit code."""
    overrides = all_overrides(options, overrides)
    loaded = _read(file, overrides)
    home = options.home or loaded.store
    if home is None and (note := where.note_on_new_home()) is not None:
        say(note, err=True)
    with open_home(home, create=True) as opened:
        if (submission := frames.submission()) is not None:
            loaded = _read(frames.copy_work_directory(file, opened.path / CODE), overrides)
        return _run_new(opened, _with_provenance(loaded, overrides, submission), options)


def resume_experiment(experiment: int, options: RunOptions, *, workdir: Path | None, retry_failed: bool) -> int:
    """Resume an experiment, and return the exit code.

    Args:
        experiment: ID of the experiment.
        options: options of the run.
        workdir: new directory of its training code, if it was moved.
        retry_failed: whether failed trials are retried, too.
    """
    with open_home(options.home) as opened:
        if retry_failed:
            ask(opened, experiment, RetryFailedRequested())
            if opened.is_driven(experiment):
                say(f"experiment {experiment} is running: its driver retries the failed trials", wrap=True)
                return 0
        return _resume(opened, experiment, options, workdir)


class Activated(NamedTuple):
    """A driver that was started in the background.

    Attributes:
        experiment: the experiment.
        pid: ID of its process.
        output: path of the file with its output.
        waits_for: what it waits for before it starts trials, or None.
    """

    experiment: int
    pid: int
    output: str
    waits_for: str | None

    def __str__(self) -> str:
        waits = self.waits_for
        does = "resumed in the background" if waits is None else f"waits in the background for {waits}"
        return f"experiment {self.experiment} {does} (pid {self.pid}); output: {self.output}"


def activate_experiment(experiment: int, options: DriverOptions) -> Activated:
    """Start a driver that outlives this terminal, and return a description of it.

    Raises:
        RequestRefused, AshwoodError: see `start_driver`.
    """
    # A job of a Ray cluster is in the background already.  Ray kills the children of a job that ends, so the driver
    # must be this process.
    if frames.is_in_a_job():
        with open_home(options.home) as opened:
            check_can_start(opened, experiment)
            run = RunOptions(**{field.name: getattr(options, field.name) for field in fields(options)})
            raise typer.Exit(_resume(opened, experiment, run, None))
    driver, log = start_driver(options.home, experiment, options.arguments)
    with open_home(options.home) as opened:
        waits = opened.waits_for(opened.store.record(experiment))
    return Activated(experiment, driver.pid, str(log), waits)


def resume_latest_or_run(file: Path | None, options: RunOptions, overrides: Sequence[str]) -> int:
    """Resume the latest unfinished experiment (of a file), or run the file if there is none; return the exit code.

    Raises:
        NotFound: no file is given and no experiment is unfinished.
        ExperimentBusy: the file's latest unfinished experiment is running.
    """
    replaced = all_overrides(options, overrides)
    loaded = None if file is None else _read(file, replaced)
    store = None if loaded is None else loaded.store
    with open_home(options.home or store, create=loaded is not None) as opened:
        latest = next(_unfinished(opened, loaded), None)
        if latest is None:
            if loaded is None:
                raise NotFound("no experiment is unfinished here; start one with: ashwood run FILE")
            return _run_new(opened, _with_provenance(loaded, replaced), options)
        warnings, workdir = [], None
        if loaded is not None and opened.store.spec(latest.id).config_text != loaded.spec.config_text:
            warnings.append(f"{file} has changed: experiment {latest.id} continues with its recorded configuration")
        if overrides:
            warnings.append(f"--set has no effect: experiment {latest.id} continues with its recorded configuration")
        if file is not None and not Path(opened.store.spec(latest.id).workdir).is_dir():
            workdir = file.absolute().parent
            warnings.append(f"the recorded directory does not exist; the training code is taken from {workdir}")
        return _resume(opened, latest.id, options, workdir, warnings)


def rerun(source: int, options: RunOptions, overrides: Sequence[str], *, checkout: bool) -> int:
    """Run the configuration of an experiment again as a new one, and return the exit code.

    Raises:
        NotFound: there is no such experiment or, with ``checkout``, no such commit.
        AshwoodError: values are given, but the experiment has no file whose values they could replace.
    """
    with open_home(options.home) as opened:
        then = opened.store.spec(source)
        if (overrides or options.stop_when) and not then.config_text:
            raise AshwoodError(
                f"experiment {source} was defined in Python and has no file, so --set and --stop-when cannot change it"
            )
        replaced = [*then.provenance.get("overrides", ()), *all_overrides(options, overrides)]
        if then.config_text:
            loaded = reread_experiment(then, overrides=replaced)
        else:
            loaded = Loaded(_on(_cluster(options, then.ray), then), ())
        spec = loaded.spec
        now = collect(Path(spec.workdir))
        if checkout:
            try:
                workdir, now["git"] = check_out(then.provenance, opened.path / CODE)
            except NotFound as error:
                raise NotFound(f"cannot check out the code of experiment {source}: {error}") from error
            spec = with_workdir(spec, workdir, root=Path(now["git"]["root"]), prefix=now["git"]["prefix"])
        spec = replace(spec, provenance={**now, "overrides": replaced, SOURCE: source})
        warnings = [f"unlike experiment {source}: {line}" for line in differences(then.provenance, now)]
        if (unrecorded := dirt(now)) is not None:
            warnings.append(unrecorded)
        return _run_new(opened, replace(loaded, spec=spec, warnings=tuple(warnings)), options)


def fork_experiment(home: str | None, source: int, text: str) -> Activated:
    """Start a new search from the changed file of an experiment in the background, and return a description of it.

    Raises:
        ConfigError: the file is wrong, or changes something that a fork may not change; see `read_fork`.
        AshwoodError: the search could not be started.
    """
    with open_home(home) as opened:
        then = opened.store.spec(source)
        loaded, changed = read_fork(then, text, default_seed=secrets.randbits(31))
        workdir = Path(then.workdir)
        if not workdir.is_dir():
            raise AshwoodError(
                f"the directory of the training code does not exist: {workdir}; if it was moved, save the file there "
                "and run it in a terminal: ashwood run FILE"
            )
        check_room(loaded, None)
        provenance = {**collect(workdir), "overrides": [], SOURCE: source, "changed": changed}
        spec = replace(loaded.spec, provenance=provenance)
        experiment = Session.create(opened, spec, at=time.time()).id
    try:
        return activate_experiment(experiment, DriverOptions(home=home))
    except AshwoodError as error:
        raise AshwoodError(f"experiment {experiment} was created, but could not be started: {error}") from error


# -- configuration ----------------------------------------------------------------------------------


def all_overrides(options: RunOptions, overrides: Sequence[str]) -> list[str]:
    """Return all values that override the file: from --set, from --stop-when and from the options of the backend."""
    return [*overrides, *bound_overrides(parse_stop_when(options.stop_when or ())), *_backend_overrides(options)]


def _backend_overrides(options: DriverOptions) -> Iterator[str]:
    if options.backend is BackendKind.LOCAL:
        yield "backend=local"
    elif options.backend is not None or options.ray_address is not None:
        # Only these keys of the backend are replaced; other settings in the file stay.
        yield "backend.type=ray"
        if options.ray_address is not None:
            yield f"backend.address={json.dumps(options.ray_address)}"


def _cluster(options: DriverOptions, recorded: RayCluster | None) -> Cluster:
    """Return the cluster of a session; ``recorded`` is the experiment's cluster, or None for this machine."""
    if options.backend is options.ray_address is None:
        return "recorded"
    if options.backend is BackendKind.LOCAL:
        return "local"
    cluster = recorded or RayCluster()
    return cluster if options.ray_address is None else replace(cluster, address=options.ray_address)


def _read(file: Path, overrides: Sequence[str]) -> Loaded:
    return read_experiment(file, overrides=overrides, default_seed=secrets.randbits(31))


def _with_provenance(loaded: Loaded, overrides: Sequence[str], submission: Mapping[str, Any] | None = None) -> Loaded:
    provenance: dict[str, Any] = {**collect(Path(loaded.spec.workdir)), "overrides": list(overrides)}
    if submission is not None:  # The job has no Git repository, so the submitting machine collected this.
        provenance.update(git=submission["git"], submitted_from=submission["workdir"])
    unrecorded = dirt(provenance)
    warnings = loaded.warnings if unrecorded is None else (*loaded.warnings, unrecorded)
    return replace(loaded, spec=replace(loaded.spec, provenance=provenance), warnings=warnings)


def _on(cluster: Cluster, spec: ExperimentSpec) -> ExperimentSpec:
    return spec if cluster == "recorded" else replace(spec, ray=None if cluster == "local" else cluster)


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
            raise ExperimentBusy(f"experiment {record.id} ({brief(record.name, LONGEST_NAME)}) is running already")


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


def _resume(
    home: Home, experiment: int, options: RunOptions, workdir: Path | None, warnings: Sequence[str] = ()
) -> int:
    if bounds := parse_stop_when(options.stop_when or ()):
        ask(home, experiment, SettingsChanged(bounds))
    if workdir is not None:
        if not workdir.is_dir():
            raise AshwoodError(f"--workdir {workdir}: there is no such directory")
        with home.lease(experiment):
            home.store.change_spec(experiment, with_workdir(home.store.spec(experiment), workdir))
    session = Session(home, experiment)
    notes = [home.unverified(experiment), code_elsewhere(session.spec, Path.cwd())]
    return _drive(session, options, [*warnings, *(note for note in notes if note is not None)])


def _drive(session: Session, options: RunOptions, warnings: Sequence[str]) -> int:
    reporter = make_reporter(session.id, session.spec, json=options.json)
    reporter.when_ready = partial(frames.announce, session.id)
    resume = f"{command_prefix()} resume {session.id}"
    for warning in warnings:
        reporter.warn(warning)
    try:
        with reporter:
            cluster = _cluster(options, session.spec.ray)
            state = session.run(reporter, workers=options.workers, cluster=cluster, share=options.share)
    except KeyboardInterrupt:
        if not reporter.running:
            say(f"No trial was started. To continue: {resume}", err=True)
        raise
    except (ClusterError, MachineError) as error:
        raise type(error)(f"{error}\nThen continue with: {resume}") from error
    except StorageUnreachable as error:
        raise StorageUnreachable(
            f"{error}\nNo trial was started or failed. When the storage can be used, continue with: {resume}"
        ) from error
    except BackendError as error:
        if "--workdir" in str(error):
            raise
        raise BackendError(
            f"{error}\nFix the training code, then continue with: {resume}\n"
            "(If the error is in the experiment file, correct the file and run it again: resume does not read it.)"
        ) from error
    return EXIT_NEEDS_FIX if reporter.needs_fix else EXIT_CODES[state]
