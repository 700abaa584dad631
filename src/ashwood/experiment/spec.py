"""What an experiment is, as plain data: the outcome of reading a file or of a few lines of Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ashwood.search.settings import SearchSettings
from ashwood.search.space import Space


class Unit(StrEnum):
    """What a training length counts."""

    BATCHES = "batches"
    RECORDS = "records"
    EPOCHS = "epochs"
    STEPS = "steps"
    """A bare number: whatever the training code counts."""


@dataclass(frozen=True, slots=True)
class Length:
    """A training length as somebody wrote it; the search itself counts in the unit of max_length."""

    count: int
    unit: Unit


class EntrypointKind(StrEnum):
    """How the training code is found."""

    FUNCTION = "function"
    """``target`` is ``module:function``, the module being importable from the work directory."""
    SCRIPT = "script"
    """``target`` is ``path/to/file.py:function``: a function of a script that was run itself."""
    PICKLE = "pickle"
    """``target`` is a file made by cloudpickle: a function of a notebook."""
    COMMAND = "command"
    """``target`` is a shell command; ``{lr}`` in it stands for the hyperparameter ``lr``."""


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """The training code."""

    kind: EntrypointKind
    target: str


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """Which checkpoints are kept, whatever else is needed to go on with a trial that hasn't ended.

    Attributes:
        save_experiment_best: of all checkpoints of the experiment, so many with the best metric.
        save_trial_best: of each trial's, so many with the best metric.
        save_trial_latest: of each trial's, so many latest.
    """

    save_experiment_best: int = 0
    save_trial_best: int = 1
    save_trial_latest: int = 1


class SaveOn(StrEnum):
    """Which reports save a checkpoint at once, besides those at which a trial leaves its worker.

    The names and their meaning are those of ``checkpoint_policy`` in Determined AI's experiment files.
    """

    BEST = "best"
    """A report with a better metric than that of any checkpoint of the experiment."""
    ALL = "all"
    """Every report of the metric that the search compares."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a trial takes of a cluster, where that is more than its slots say.

    Attributes:
        cpus: CPU cores; None: as many as it has slots where slots are cores, otherwise 1.
        gpus: GPUs; a fraction shares one between trials; None: as many as it has slots where slots are GPUs.
        memory: bytes; None: whatever is there.
        custom: what else nodes offer, by the cluster's names for it.
    """

    cpus: float | None = None
    gpus: float | None = None
    memory: int | None = None
    custom: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A Ray cluster to run trials on.

    Attributes:
        address: of its head, as ``ray.init`` takes it, or ``local``; None: RAY_ADDRESS, or the cluster that runs here.
        runtime_env: what else Ray is to set up for workers (``pip``, ``conda``, ``env_vars``, …).
        ship_code: whether the work directory is sent to the nodes; False: every node has it in the same place.
        autoscales: whether nodes may come that are larger than those that are there.
    """

    address: str | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    ship_code: bool = True
    autoscales: bool = False


IMPORTED: Final = "imported"
"""Key of `ExperimentSpec.provenance`: how many entries the file had that the experiment was imported from."""

RULES: Final = 3
"""Number of the rules by which new experiments decide.

Every change of a decision or a draw raises it. An experiment keeps the number with which it was created, so old logs
replay as they were recorded. What each number changed:

1. A trial that declares its hyperparameters invalid no longer counts towards ``stop_at``, nor do its checkpoints count
   towards ``save_experiment_best``.
2. A report at or past the target that lacks the metric is no reason for a warning if it holds training metrics alone
   or the experiment has a ``min_validation_period``.
3. The report of the step that a process finishes after its trial was stopped counts, without a warning.  A trial keeps
   as many of its latest checkpoints as ``save_trial_latest`` says, also if it has fewer.  An experiment in which too
   many trials declare their hyperparameters invalid pauses instead of failing.  A pause that a user asked for has that
   as its reason.  A trial whose code trains to its target without reporting the metric there is not retried.  Each
   warning of a trial's process is repeated once for the experiment; before, only the first of all was.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSpec:
    """One experiment.

    Attributes:
        name: for people.
        space: the hyperparameters.
        search: the search's settings; its lengths count in ``unit``.
        metric: the name of the metric that the search compares.
        smaller_is_better: whether a smaller metric is better.
        unit: what lengths count.
        entrypoint: the training code.
        workdir: absolute path of the directory that training code runs in and is imported from.
        seed: every random draw of the search, and every trial's own seed, follows from it.
        data: handed to the training code as it is.
        records_per_epoch: size of the training set, to convert between units; None: unknown.
        min_validation_period: validate at least this often; None: at the rungs only.
        min_checkpoint_period: save at least this often; None: when a trial leaves its worker.
        max_restarts: how many times a trial whose process died is started again.
        max_preemptions: how many times in a row a trial may lose its worker without getting any further, before that
            counts as a failure of its own; None: any number.
        reuse_workers: whether a worker process runs one attempt after the other; if not, each attempt gets a process
            that is forked from it.
        grace_period: seconds without a finished step or save after which a worker that must stop is killed; None: 10,
            or twice the longest step of its attempt if that is more.
        max_silence: seconds of training without a finished step or save after which an attempt fails, or None.
        max_log_size: bytes that the log of a trial may have; its middle is left out if it has more; None: any number.
        max_trial_time: seconds of training, in all its attempts, after which a trial is stopped; None: any number.
        max_invalid_trials: the experiment pauses when so many trials have declared their hyperparameters invalid;
            None: 10 times max_trials.
        max_common_failures: the experiment pauses when so many trials have failed in the same way and none has
            reported anything; 0: never.
        stop_at: the experiment stops when a trial reports this metric or a better one; None: never.
        max_seconds: it stops when drivers have run it for so long; None: never.
        checkpoint_storage: directory or fsspec URL for checkpoints; None: inside the home.
        checkpoint_policy: which checkpoints are kept; None: all.
        save_on: which reports save a checkpoint at once; ``checkpoint_policy`` in experiment files.
        source_checkpoint: a checkpoint directory that every new trial starts from.
        slots_per_trial: how many slots (GPUs, or CPU cores where there are none) a trial takes.
        demand: what else a trial takes of a cluster.
        ray: the Ray cluster that trials run on; None: they run on this machine.
        environment: environment variables for the training code.
        config_text: the experiment file, word for word, for the record.
        provenance: what the experiment was started with, JSON-able: ``ashwood`` and ``python`` (versions), ``packages``
            (version by name), ``git`` (commit, dirty, prefix: the work directory inside the repository; or None) and
            `IMPORTED`.
        rules: number of the rules by which the experiment decides; see `RULES`.
        arguments: command line (``sys.argv``) of the script that started the search, which the script sees in workers
            too; empty: no script did. It may hold secrets, so exports leave it out.
        identity: random text that no other experiment has; empty: it was created before there were identities.
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
    stop_at: float | None = None
    max_seconds: float | None = None
    checkpoint_storage: str | None = None
    checkpoint_policy: CheckpointPolicy | None = None
    save_on: SaveOn = SaveOn.BEST
    source_checkpoint: str | None = None
    slots_per_trial: int = 1
    demand: Demand = Demand()
    ray: RayCluster | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    rules: int = RULES
    arguments: tuple[str, ...] = ()
    identity: str = ""

    @property
    def imported_entries(self) -> int:
        """How many entries its log was imported with; 0: it was not imported."""
        entries = self.provenance.get(IMPORTED, 0)
        return entries if isinstance(entries, int) else 0
