"""The search from a script or a notebook: the same experiments as the command line's, the same record."""

from __future__ import annotations

import inspect
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from ashwood.backends.local.load import IMPORTING, find, module_name
from ashwood.cli.export import make_frame, read_trials
from ashwood.cli.progress import make_reporter
from ashwood.config import build_experiment, parse_backend, parse_stop_when
from ashwood.engine import Home, Session, open_home
from ashwood.engine.control import ask
from ashwood.engine.provenance import collect, dirt
from ashwood.engine.session import Cluster
from ashwood.errors import AshwoodError, NotFound, TrainingCodeError
from ashwood.eventlog.port import LARGEST_ID, ExperimentId
from ashwood.experiment.events import (
    CancelRequested,
    KillRequested,
    PauseRequested,
    SettingsChanged,
    TrialKillRequested,
    TrialStopRequested,
)
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec
from ashwood.figures import Figures
from ashwood.search.vocabulary import TrialId
from ashwood.trial.guard import changed_names, read_source
from ashwood.views.table import trial_records
from ashwood.views.trials import TrialRow

if TYPE_CHECKING:
    import pandas as pd

_LARGE = 50_000_000
"""Bytes of a pickled function from which on a warning is given."""

LengthLike: TypeAlias = int | Mapping[Literal["batches", "records", "epochs"], int]
"""``{"epochs": 27}``, or a bare number of whatever the training code counts."""


StopWhen: TypeAlias = Mapping[Literal["metric_at", "max_time"], float | str]
"""What is enough: ``{"metric_at": 0.98, "max_time": "2h"}``, or one of them; a time is in seconds or text."""

BackendLike: TypeAlias = Literal["local", "ray"] | Mapping[str, Any]
"""``"ray"``, or ``{"type": "ray", "address": "10.0.0.1:6379"}`` and whatever else a file may say of the cluster."""


@dataclass(frozen=True, kw_only=True)
class _Searcher:
    name: ClassVar[str]

    metric: str
    max_length: LengthLike
    smaller_is_better: bool = True
    stop_when: StopWhen | None = None

    def to_config(self) -> dict[str, Any]:
        """The ``searcher`` section of the experiment file that says the same."""
        settings = {key: value for key, value in asdict(self).items() if value is not None}
        return {"name": self.name, **settings}


@dataclass(frozen=True, kw_only=True)
class _ManyTrials(_Searcher):
    max_concurrent_trials: int = 16


@dataclass(frozen=True, kw_only=True)
class AdaptiveASHA(_ManyTrials):
    """Several brackets of asynchronous successive halving, from aggressive to conservative."""

    name: ClassVar[str] = "adaptive_asha"

    max_trials: int
    mode: Literal["aggressive", "standard", "conservative", "auto"] = "standard"
    divisor: float | None = None
    max_rungs: int | None = None
    sampler: Literal["random", "density"] | None = None
    bracket_rungs: Sequence[int] | None = None
    stop_once: bool = False


@dataclass(frozen=True, kw_only=True)
class AsyncHalving(_ManyTrials):
    """One bracket of asynchronous successive halving."""

    name: ClassVar[str] = "async_halving"

    max_trials: int
    num_rungs: int | None = None
    divisor: float = 4
    stop_once: bool = False


@dataclass(frozen=True, kw_only=True)
class SyncHalving(_ManyTrials):
    """One bracket of synchronous successive halving."""

    name: ClassVar[str] = "sync_halving"

    max_trials: int
    num_rungs: int | None = None
    divisor: float = 4


@dataclass(frozen=True, kw_only=True)
class RandomSearch(_ManyTrials):
    """Every trial trains to the end."""

    name: ClassVar[str] = "random"

    max_trials: int


@dataclass(frozen=True, kw_only=True)
class Grid(_ManyTrials):
    """Every point of a grid trains to the end; int, double and log hyperparameters need a ``count``."""

    name: ClassVar[str] = "grid"


@dataclass(frozen=True, kw_only=True)
class Single(_Searcher):
    """One trial, trained to the end."""

    name: ClassVar[str] = "single"


class Experiment:
    """An experiment of a home, read from its record whenever it is asked.

    Attributes:
        id: its number.
        spec: what it is.
    """

    def __init__(self, home: Home, experiment: ExperimentId) -> None:
        self._home = home
        self.id = experiment
        self.spec: ExperimentSpec = home.store.spec(experiment)

    @property
    def state(self) -> ExperimentState:
        """Where it stands."""
        return self._home.store.record(self.id).state

    @property
    def best_trial(self) -> TrialRow | None:
        """The trial with the best value of the searcher's metric; None: no trial has reported a number yet."""
        _, table = read_trials(self._home, self.id)
        return table.leader

    def trials(self) -> pd.DataFrame:
        """One row a trial: its state, lengths, metrics, and a column ``hparams.NAME`` for each hyperparameter.

        Raises:
            AshwoodError: pandas is not installed.
        """
        _, table = read_trials(self._home, self.id)
        return make_frame(trial_records(table, self.spec.metric, self._home.storage(self.id, self.spec).locate))

    @property
    def figures(self) -> Figures:
        """Its figures: ``experiment.figures.timeline()`` is a Plotly figure."""
        log = self._home.store.log(self.id)
        return Figures(self.spec, lambda: (entry for _, entry in log.read()))

    def report(self, out: str | os.PathLike[str]) -> None:
        """Write a report to send to a colleague: ``report.html``; or ``.pdf`` or ``.png``, where there is a browser.

        Raises:
            AshwoodError: it can't be written; or a library, or the browser that it takes, is missing.
        """
        from ashwood.cli.report import write_report

        write_report(self._home, self.id, Path(out))

    def resume(
        self, *, workers: int | None = None, backend: BackendLike | None = None, progress: bool = True
    ) -> Experiment:
        """Go on with it, to its end; returns itself.

        Args:
            workers: slots to use, as with `run`.
            backend: where trials run this time; None: where they were to run when it began.
            progress: whether to show how it goes.

        Raises:
            ConfigError: that is no backend.
        """
        cluster: Cluster = "recorded" if backend is None else parse_backend(backend) or "local"
        _drive(Session(self._home, self.id), workers, progress, cluster=cluster)
        return self

    # -- steering: from another thread or process, or while nobody runs it -------------------------

    def pause(self) -> None:
        """Let running trials save a checkpoint and let go; `resume` goes on.

        Raises:
            RequestRefused: it has ended.
        """
        ask(self._home, self.id, PauseRequested())

    def cancel(self) -> None:
        """End it for good; running trials save a checkpoint first.

        Raises:
            RequestRefused: it has ended.
        """
        ask(self._home, self.id, CancelRequested())

    def kill(self) -> None:
        """End it for good, at once.

        Raises:
            RequestRefused: it has ended.
        """
        ask(self._home, self.id, KillRequested())

    def kill_trial(self, trial: TrialId) -> None:
        """End a trial for good, at once; it counts as the worst in its rung.

        Raises:
            RequestRefused: there is no such trial, or it has ended.
        """
        ask(self._home, self.id, TrialKillRequested(trial))

    def stop_trial(self, trial: TrialId) -> None:
        """End a trial where it is; its results stand.

        Raises:
            RequestRefused: there is no such trial, or it has ended.
        """
        ask(self._home, self.id, TrialStopRequested(trial))

    def set(
        self,
        *,
        max_concurrent_trials: int | None = None,
        max_trials: int | None = None,
        stop_when: StopWhen | None = None,
    ) -> None:
        """Change settings, also while it runs; None leaves one as it is.

        Args:
            max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
            max_trials: how many trials to create in all.
            stop_when: the bounds that hold from now on, instead of those before; ``{}``: none.

        Raises:
            ConfigError: a bound is no number or duration.
            RequestRefused: it has ended, or so few trials would be fewer than there are.
        """
        numbers = {"max_concurrent_trials": max_concurrent_trials, "max_trials": max_trials}
        changed: dict[str, float | None] = {name: value for name, value in numbers.items() if value is not None}
        if stop_when is not None:
            given = parse_stop_when([f"{key}={value}" for key, value in stop_when.items()], option="stop_when")
            changed |= {"stop_at": None, "max_seconds": None, **given}
        ask(self._home, self.id, SettingsChanged(changed))

    def __repr__(self) -> str:
        return f"<ashwood experiment {self.id} ({self.spec.name}): {self.state}>"


def run(
    train: Callable[..., Any] | str,
    *,
    hparams: Mapping[str, Any],
    searcher: _Searcher | Mapping[str, Any],
    name: str | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int | None = None,
    home: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    backend: BackendLike | None = None,
    progress: bool = True,
    **fields: Any,
) -> Experiment:
    """Run an experiment to its end and return it.

    Args:
        train: the training code: a function that takes a `Trial`, or what ``entrypoint`` takes in a file.
        hparams: hyperparameters and their ranges, nested as you like; plain values are constants.
        searcher: `AdaptiveASHA` or another searcher, or the ``searcher`` section of a file.
        name: for people; the function's name if None.
        data: handed to the training code as ``trial.data``.
        seed: fixes every random draw of the search; drawn and recorded if None.
        home: where experiments live; None: ``ASHWOOD_HOME`` or ``.ashwood``.
        workers: slots to use; None: all GPUs, or all cores where there are none, of a cluster all that it has.
        backend: where trials run: on this machine, or ``"ray"``, or a map as in a file.
        progress: whether to show how it goes.
        fields: other fields of an experiment file, such as ``max_restarts=0`` or ``labels=["try"]``.

    Raises:
        ConfigError: the description is wrong; says everything that is.
        AshwoodError: the experiment could not be run, or its trials failed; or a disk is full.
    """
    if script := os.environ.get(IMPORTING):
        raise TrainingCodeError(
            f"{script} starts a search when it is imported, as worker processes do to find its training function: "
            'put the call of ashwood.run() under if __name__ == "__main__":'
        )
    _share_main()
    notes: list[str] = []
    if not isinstance(train, str):
        _check_signature(train)
        notes += _changed_under_guard(train)
    opened = open_home(home, create=True)
    functions = opened.path / "functions"
    entrypoint = train if isinstance(train, str) else _entrypoint(train, functions, notes)
    tree: dict[str, Any] = {
        "name": name or (train if isinstance(train, str) else _name_of(train)),
        "entrypoint": entrypoint,
        "hyperparameters": hparams,
        "searcher": searcher.to_config() if isinstance(searcher, _Searcher) else searcher,
        **({} if data is None else {"data": data}),
        **({} if seed is None else {"reproducibility": {"experiment_seed": seed}}),
        **({} if backend is None else {"backend": backend}),
        **fields,
    }
    workdir = _workdir(train)
    loaded = build_experiment(tree, workdir=workdir, default_seed=int.from_bytes(os.urandom(4), "big") >> 1)
    provenance = collect(workdir)
    # Only a program that has a file was started with arguments of the user's.
    arguments = tuple(sys.argv) if _script() is not None else ()
    spec = replace(loaded.spec, provenance=provenance, arguments=arguments)
    session = Session.create(opened, spec, at=time.time())
    unrecorded = dirt(provenance)
    _drive(session, workers, progress, [*notes, *loaded.warnings, *([] if unrecorded is None else [unrecorded])])
    return Experiment(opened, session.id)


def open_experiment(experiment: ExperimentId, *, home: str | os.PathLike[str] | None = None) -> Experiment:
    """An experiment that is recorded already.

    Raises:
        NotFound: there is none of that number.
    """
    _share_main()
    opened = open_home(home)
    if experiment > LARGEST_ID:
        raise NotFound(f"there is no experiment {experiment} in {opened.name}")
    return Experiment(opened, experiment)


def _drive(
    session: Session,
    workers: int | None,
    progress: bool,
    notes: Sequence[str] = (),
    *,
    cluster: Cluster = "recorded",
) -> None:
    reporter = make_reporter("text" if progress else "quiet", session.id, session.spec)
    for note in notes:
        if progress:
            reporter.warn(note)
        else:
            warnings.warn(note, stacklevel=3)
    with reporter:
        state = session.run(reporter, workers=workers, cluster=cluster)
    if state is ExperimentState.ERRORED:
        raise AshwoodError(f"experiment {session.id} failed: {reporter.why_it_ended}")
    if reporter.has_to_be_mended:
        raise AshwoodError(f"experiment {session.id} paused: {reporter.why_it_ended}; mend that, then resume it")


def _entrypoint(train: Callable[..., Any], functions: Path, notes: list[str]) -> Entrypoint:
    """Return how worker processes find a callable.

    What a module, or the script that is run, has under a name is imported there. Anything else is pickled: closures,
    methods of objects, callable objects, `functools.partial` and functions of notebooks.
    """
    reference = _reference(train)
    return _pickled(train, functions, notes) if reference is None else Entrypoint(*reference)


def _reference(thing: Any) -> tuple[EntrypointKind, str] | None:
    """Return how a worker can find a class or a callable by name, or None if it cannot."""
    name, module = getattr(thing, "__qualname__", None), sys.modules.get(getattr(thing, "__module__", None) or "")
    if not isinstance(name, str) or module is None or not _has(module, name, thing):
        return None
    if module is not sys.modules["__main__"]:
        return EntrypointKind.FUNCTION, f"{module.__name__}:{name}"
    place = _script()
    if place is None:
        return None
    kind, where = place
    return kind, f"{where}:{name}"


def _has(module: ModuleType, name: str, thing: Any) -> bool:
    """Return whether a module has a thing under a dotted name."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    # Each look at a class method makes a new object, which equals the others.
    return found is thing or (found is not None and isinstance(thing, MethodType) and found == thing)


def _script() -> tuple[EntrypointKind, str] | None:
    """Return how workers import the program that runs: as a module or as a script; None if it has no file."""
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or not Path(file).is_file():
        return None
    # "python -m package.module" gives the module's name, which relative imports need.
    if spec is not None:
        return EntrypointKind.FUNCTION, spec.name
    return EntrypointKind.SCRIPT, str(Path(file).absolute())


def _share_main() -> None:
    """Make the script that runs known under its own name: objects that workers pickle name their classes by it."""
    if (script := _script()) is not None:
        kind, where = script
        name = where if kind is EntrypointKind.FUNCTION else module_name(Path(where))
        sys.modules.setdefault(name, sys.modules["__main__"])


def _pickled(train: Callable[..., Any], functions: Path, notes: list[str]) -> Entrypoint:
    import hashlib

    name = _name_of(train)
    try:
        content = _pickle(train)
    except Exception as error:
        raise TrainingCodeError(
            f"{name!r} can't be sent to worker processes ({type(error).__name__}: {error}); make it a function of a "
            "module, and load in it what it needs"
        ) from error
    if len(content) > _LARGE:
        notes.append(
            f"{name!r} carries {len(content) / 1e6:.0f} MB of data along, which each worker process loads: pass the "
            "path of a file as data=, and load it in the training code"
        )
    functions.mkdir(parents=True, exist_ok=True)
    path = functions / f"{name.strip('<>')}-{hashlib.sha256(content).hexdigest()[:16]}.pkl"
    path.write_bytes(content)
    return Entrypoint(EntrypointKind.PICKLE, str(path))


def _pickle(train: Callable[..., Any]) -> bytes:
    """Return a callable as bytes. Classes and functions of the script are named in it, not copied.

    A copied class would be another class than the one that workers import from the script, and what they pickle of
    it could not be loaded.
    """
    import io

    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, type | FunctionType) and thing.__module__ == "__main__":
                reference = _reference(thing)
                if reference is not None:
                    return find, (str(reference[0]), reference[1])
            return super().reducer_override(thing)

    file = io.BytesIO()
    Pickler(file).dump(train)
    return file.getvalue()


def _name_of(train: Callable[..., Any]) -> str:
    """Return a name for a callable: its own, that of the function of a partial, or that of the class of an object."""
    if isinstance(train, partial):
        return _name_of(train.func)
    return getattr(train, "__name__", None) or type(train).__name__


def _changed_under_guard(train: Callable[..., Any]) -> Sequence[str]:
    """Return a warning if training code of the script uses names that the script changes under its main guard."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    function = _function_of(train)
    if file is None or not isinstance(function, FunctionType) or function.__module__ != "__main__":
        return ()
    changed = sorted(changed_names(read_source(file)) & _names_in(function.__code__))
    if not changed:
        return ()
    names, verb = " and ".join(changed), "are" if len(changed) > 1 else "is"
    return [
        f'{names} {verb} changed under if __name__ == "__main__" in {Path(file).name}. Worker processes do not run '
        "that part, so training code sees the value from before: pass it as data= and read trial.data"
    ]


def _function_of(train: Any) -> Any:
    """Return the Python function that runs when a callable is called, or the callable if it is none."""
    while isinstance(train, partial):
        train = train.func
    if not isinstance(train, FunctionType | MethodType):
        train = getattr(type(train), "__call__", train)  # noqa: B004 - its function is wanted
    return getattr(train, "__func__", train)


def _names_in(code: CodeType) -> set[str]:
    """Return the global names and attributes in a code object and in those inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *(name for each in inner for name in _names_in(each))}


def _check_signature(train: Callable[..., Any]) -> None:
    """Make sure that a callable can be called with a trial.

    Raises:
        TrainingCodeError: it cannot.
    """
    if not callable(train):
        raise TrainingCodeError(f"train must be a function that takes a trial, not {train!r}")
    try:
        signature = inspect.signature(train)
    except (ValueError, TypeError):  # A callable of C may have none.
        return
    try:
        signature.bind(None)
    except TypeError:
        raise TrainingCodeError(
            f"{_name_of(train)}{signature} must take one argument, the trial; give others with functools.partial"
        ) from None


def _workdir(train: Callable[..., Any] | str) -> Path:
    """Return where the training code runs: the directory that its module is imported from."""
    if isinstance(train, str):
        return Path.cwd()
    owner: Any = train
    while isinstance(owner, partial):
        owner = owner.func
    name = getattr(owner, "__module__", None)
    if name == "__main__" and (script := _script()) is not None and script[0] is EntrypointKind.FUNCTION:
        name, file = script[1], sys.modules["__main__"].__file__
    elif name == "__main__" or name not in sys.modules:
        return Path.cwd()
    else:
        file = getattr(sys.modules[name], "__file__", None)
    if file is None:
        return Path.cwd()
    # A module of a package is imported from the directory that the package lies in.
    levels = name.count(".") + (Path(file).name == "__init__.py")
    return Path(file).absolute().parents[levels]
