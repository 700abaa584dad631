"""The description of an experiment as plain data, made from an experiment file or from Python code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ashwood.search.guides import PastTrials
from ashwood.search.settings import SearchSettings
from ashwood.search.space import Space


class Unit(StrEnum):
    """The unit of a training length."""

    BATCHES = "batches"
    RECORDS = "records"
    EPOCHS = "epochs"
    STEPS = "steps"
    """The training code defines what a step is; lengths without a unit are in steps."""


@dataclass(frozen=True, slots=True)
class Length:
    """A training length in the unit in which it was written; the search converts it to the unit of max_length."""

    count: int
    unit: Unit


class EntrypointKind(StrEnum):
    """The kind of an entry point, which says how to find the training code."""

    FUNCTION = "function"
    """``target`` is ``module:function``; the module can be imported from the work directory."""
    SCRIPT = "script"
    """``target`` is ``path/to/file.py:function``, a function in the script that started the search."""
    PICKLE = "pickle"
    """``target`` is a file with a function that cloudpickle saved, for example from a notebook."""
    COMMAND = "command"
    """``target`` is a shell command; ``{lr}`` in it stands for the hyperparameter ``lr``."""


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """The function or command that trains a trial."""

    kind: EntrypointKind
    target: str


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """Which checkpoints are kept, besides those that trials need to resume.

    Attributes:
        save_experiment_best: number of checkpoints of the experiment with the best metric that are kept.
        save_trial_best: number of checkpoints of each trial with the best metric that are kept.
        save_trial_latest: number of the latest checkpoints of each trial that are kept.
    """

    save_experiment_best: int = 0
    save_trial_best: int = 1
    save_trial_latest: int = 1


class SaveOn(StrEnum):
    """Which reports save a checkpoint at once, besides those at which a trial releases its worker.

    The names and their meaning are those of ``checkpoint_policy`` in Determined AI's experiment files.
    """

    BEST = "best"
    """A report with a better metric than all checkpoints of the experiment."""
    ALL = "all"
    """Every report of the metric that the search compares."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Demand:
    """The resources of a cluster that a trial needs, if its slots do not say enough.

    Attributes:
        cpus: number of CPU cores, or None for its number of slots if slots are cores and for 1 otherwise.
        gpus: number of GPUs, or None for its number of slots if slots are GPUs; with a fraction, trials share a GPU.
        memory: bytes of memory, or None for no demand.
        custom: amounts of other resources, by their names in the cluster.
    """

    cpus: float | None = None
    gpus: float | None = None
    memory: int | None = None
    custom: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A Ray cluster to run trials on.

    Attributes:
        address: address of its head for ``ray.init``, or ``local``; None for RAY_ADDRESS or a cluster on this machine.
        runtime_env: other parts of Ray's runtime environment for workers (``pip``, ``conda``, ``env_vars``, …).
        ship_code: whether to send the work directory to the nodes; otherwise each node has it at the same path.
        autoscales: whether the cluster can add nodes that are larger than all present ones.
    """

    address: str | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    ship_code: bool = True
    autoscales: bool = False


IMPORTED: Final = "imported"
"""Key of `ExperimentSpec.provenance` for the number of log entries with which the experiment was imported."""

SOURCE: Final = "from"
"""Key of `ExperimentSpec.provenance` for the number of the experiment in the same home from whose file it was made."""


def source_of(provenance: Mapping[str, Any]) -> int | None:
    """Return the number of the experiment from whose file an experiment was made, or None.

    In an imported experiment, the number belongs to another home.
    """
    number = provenance.get(SOURCE)
    return number if type(number) is int and IMPORTED not in provenance else None


RULES: Final = 6
"""Number of the rules by which new experiments decide.

A change of a decision or a draw must increase it.  An experiment keeps the number with which it was created, so old
logs replay to the decisions that they hold.  The changes of each number:

1. A trial that declares its hyperparameters invalid no longer counts towards ``metric_at``, nor do its checkpoints
   count towards ``save_experiment_best``.
2. A report at or past the target without the metric causes no warning if it holds only training metrics or the
   experiment has a ``min_validation_period``.
3. The report of the step that a process finishes after its trial was stopped counts, without a warning.  A trial with
   fewer than ``save_trial_latest`` checkpoints keeps them all.  An experiment in which too many trials declare their
   hyperparameters invalid pauses instead of failing.  A pause on request has this request as its reason.  A trial whose
   code trains to its target without reporting the metric there is not retried.  Each different warning of trial
   processes is shown once for the experiment; before, only the first one was.
4. Integers of a grid are rounded with halves away from zero.
5. In ``mode: auto``, half of the training goes to trials that skip the first rung, a rung with nearly equal results is
   skipped, and so is one whose ranking hardly agrees with the next (`SearchSettings.hedged`, which the spec records).
   Priors and past searches change only the draws of some trials, and only if the good trials of this search agree with
   them better than by chance; see `ashwood.search.density`.
6. Past searches are followed only after there are results to judge them, and only if the trials that they proposed are
   among the good ones more often than by chance.  Two warnings have other words: about a trial that restarts without a
   checkpoint, and about one that failed while it released its worker.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSpec:
    """The description of an experiment.

    Attributes:
        name: name for people, which need not be unique.
        space: the hyperparameters and their ranges.
        search: settings of the search; its lengths are in ``unit``.
        start_with: hyperparameters of the first trials, by dotted name; each trial's other hyperparameters are drawn.
        metric: name of the metric that the search compares.
        smaller_is_better: whether a smaller metric is better.
        unit: unit of all lengths without a unit of their own.
        entrypoint: the training code.
        workdir: absolute path of the directory in which training code runs and from which it is imported.
        seed: seed of all random draws of the search and of the seeds of trials.
        description: free text for people.
        labels: words by which people can select experiments.
        data: values that are passed to the training code unchanged.
        records_per_epoch: size of the training set, to convert between units, or None if unknown.
        min_validation_period: largest length between two validations, or None to validate only at rungs.
        min_checkpoint_period: largest length between two checkpoints, or None to save only when a trial releases its
            worker.
        max_restarts: number of times that a failed trial is restarted.
        max_preemptions: number of workers that a trial may lose in a row without progress before that counts as a
            failure, or None for no limit.
        reuse_workers: whether a worker process runs one attempt after the other; otherwise each attempt runs in a
            process that is forked from it.
        grace_period: seconds without a finished step or save after which a worker that must stop is killed; None for
            10, or for twice the longest step of its attempt if that is more.
        max_silence: seconds of training without a finished step or save after which an attempt fails, or None.
        max_log_size: largest size of a trial's log in bytes, or None for no limit; the middle of a larger log is left
            out.
        max_trial_time: seconds of training, over all its attempts, after which a trial is stopped, or None.
        max_invalid_trials: number of trials with invalid hyperparameters at which the experiment pauses, or None for 10
            times max_trials.
        max_common_failures: number of trials that fail in the same way, before any trial has reported the metric, at
            which the experiment pauses; 0 for no limit.
        metric_at: metric at which the experiment stops if a trial reports it or a better one, or None.
        max_time: seconds that drivers may run the experiment in total before it stops, or None for no limit.
        checkpoint_storage: directory or fsspec URL for checkpoints, or None for a directory in the home.
        checkpoint_policy: which checkpoints are kept, or None to keep all.
        max_size: largest total size of all checkpoints in bytes, or None for no limit; see `ashwood.experiment.quota`.
        save_on: which reports save a checkpoint at once; ``checkpoint_policy`` in experiment files.
        source_checkpoint: checkpoint directory from which all new trials start, or None.
        warm_start: results of other searches, near whose good settings new trials are drawn.  Before the experiment is
            created, they have only a source.
        slots_per_trial: number of slots (GPUs, or CPU cores on machines without GPUs) that a trial takes.
        demand: other resources that a trial needs in a cluster.
        ray: the Ray cluster that runs the trials, or None to run them on this machine.
        environment: environment variables for the training code.
        config_text: unchanged text of the experiment file, or empty.
        provenance: JSON-able facts about the start of the experiment: ``ashwood`` and ``python`` (versions),
            ``packages`` (version by name), ``git`` (None, or its commit, dirty, and prefix, which is the path of the
            work directory in the repository) and `IMPORTED`.
        rules: number of the rules by which the experiment decides; see `RULES`.
        arguments: command line (``sys.argv``) of the script that started the search, or empty.  Workers set it for the
            script too.  It can hold secrets, so exports leave it out.
        identity: random text that is unique to the experiment, or empty in experiments of older versions.
    """

    name: str
    space: Space
    search: SearchSettings
    metric: str
    smaller_is_better: bool = True
    unit: Unit
    entrypoint: Entrypoint
    workdir: str
    seed: int
    description: str = ""
    labels: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    records_per_epoch: int | None = None
    min_validation_period: Length | None = None
    min_checkpoint_period: Length | None = None
    max_restarts: int = 5
    max_preemptions: int | None = None
    reuse_workers: bool = True
    grace_period: float | None = None
    max_silence: float | None = None
    max_log_size: int | None = None
    max_trial_time: float | None = None
    max_invalid_trials: int | None = None
    max_common_failures: int = 0
    metric_at: float | None = None
    max_time: float | None = None
    checkpoint_storage: str | None = None
    checkpoint_policy: CheckpointPolicy | None = None
    max_size: int | None = None
    save_on: SaveOn = SaveOn.BEST
    source_checkpoint: str | None = None
    warm_start: tuple[PastTrials, ...] = ()
    slots_per_trial: int = 1
    demand: Demand = Demand()
    ray: RayCluster | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    rules: int = RULES
    arguments: tuple[str, ...] = ()
    identity: str = ""
    start_with: tuple[Mapping[str, Any], ...] = ()

    @property
    def imported_entries(self) -> int:
        """Number of log entries with which the experiment was imported, or 0 if it was not imported."""
        entries = self.provenance.get(IMPORTED, 0)
        return entries if isinstance(entries, int) else 0
