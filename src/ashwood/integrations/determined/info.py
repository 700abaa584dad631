"""What a process of a trial can know about its experiment: `get_cluster_info`."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ashwood.trial import Trial
from ashwood.trial.current import experiments_trial
from ashwood.trial.job import SLOTS, WorkerJob
from ashwood.trial.lengths import STEPS

IDENTITY = ".ashwood-determined.json"
"""File in a checkpoint with its storage id and ``steps_completed``."""
METADATA = "metadata.json"
"""File in a checkpoint with the metadata that training code stored with it."""

_LOCALHOST = "127.0.0.1"
_MOST_SEEDS = 1 << 31
_SAID = "ASHWOOD_DETERMINED_SAID"
"""Environment variable with the trial and attempt for which the log already says that this package is used."""
_DEFAULTS: dict[str, Any] = {
    "description": None,
    "labels": [],
    "optimizations": {
        "aggregation_frequency": 1,
        "average_aggregated_gradients": True,
        "average_training_metrics": True,
        "gradient_compression": False,
    },
    "max_restarts": 5,
    "perform_initial_validation": False,
    "scheduling_unit": 100,
}
"""Settings that a file may leave out, as they are in effect."""


class Identity(NamedTuple):
    """What identifies a checkpoint for training code of Determined.

    Attributes:
        storage_id: the id that ``store_path`` and ``upload`` returned.
        steps_completed: the number that training code stored with it, or None if it did not store one.
    """

    storage_id: str
    steps_completed: int | None

    @classmethod
    def read(cls, directory: Path, name: str) -> Identity:
        """Return the identity of the checkpoint in a directory, or one that follows from its name.

        Checkpoints of other training code do not contain an identity.
        """
        try:
            found = json.loads((directory / IDENTITY).read_text())
            return cls(str(found["storage_id"]), int(found["steps_completed"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls("-".join(name.rstrip("/").split("/")[-2:]), None)

    def write(self, directory: Path) -> None:
        """Write the identity into the directory of a checkpoint."""
        (directory / IDENTITY).write_text(json.dumps(self._asdict()))


class RendezvousInfo:
    """The machines that train the trial: always this one."""

    def __init__(self, container_addrs: list[str], container_rank: int, container_slot_counts: list[int]) -> None:
        self.container_addrs = container_addrs
        self.container_rank = container_rank
        self.container_slot_counts = container_slot_counts


class ResourcesInfo:
    """The GPUs of the trial."""

    def __init__(self, gpu_uuids: list[str]) -> None:
        self.gpu_uuids = gpu_uuids


class TrialInfo:
    """The trial.

    Attributes:
        trial_id: number of the trial in its experiment, from 0.
        experiment_id: number of the experiment.
        trial_seed: seed for the random numbers of the trial.
        hparams: the hyperparameters.
    """

    def __init__(self, trial: Trial) -> None:
        job = trial._attempt.job
        self.trial_id = trial.id
        self.experiment_id = 0 if trial.experiment is None else trial.experiment.id
        # NumPy accepts seeds below 2**32 only, and seeds of Determined are below 2**31.
        self.trial_seed = trial.seed % _MOST_SEEDS
        self.hparams: dict[str, Any] = plain(job.hparams)
        self._config = configuration(job)
        self._steps_completed = _steps_completed(trial)
        self._trial_run_id = trial.attempt
        self._debug = False
        self._unique_port_offset = 0
        self._inter_node_network_interface: str | None = None
        self._tensorboard_logging = True


class ClusterInfo:
    """The trial, its experiment and its machine.

    What belongs to a Determined master is an empty text: ``master_url``, ``cluster_id`` and ``session_token``.

    Attributes:
        agent_id: name of the machine.
        slot_ids: numbers of the trial's slots, from 0.
        task_id: experiment and trial.
        allocation_id: experiment, trial and attempt.
        task_type: always ``TRIAL``.
        trial: the trial.
        user_data: the ``data`` of the experiment.
    """

    def __init__(self, trial: Trial) -> None:
        self.master_url = self.cluster_id = self.session_token = ""
        self.master_cert_name: str | None = None
        self.master_cert_file: str | None = None
        self.agent_id = socket.gethostname()
        self.slot_ids = list(range(slots_of_trial()))
        self.trial = self._trial_info = TrialInfo(trial)
        self.task_id = f"{self.trial.experiment_id}.{trial.id}"
        self.allocation_id = f"{self.task_id}.{trial.attempt}"
        self.task_type = "TRIAL"
        self.user_data: dict[str, Any] = plain(trial._attempt.job.data)
        self._rendezvous_info = RendezvousInfo([_LOCALHOST], 0, [len(self.slot_ids)])
        self._resources_info = ResourcesInfo(_gpus())
        self._trial = trial

    @property
    def latest_checkpoint(self) -> str | None:
        """Storage id of the checkpoint to continue from, or None to train from the start."""
        identity = latest_identity(self._trial)
        return None if identity is None else identity.storage_id

    @property
    def container_addrs(self) -> list[str]:
        """Addresses of the machines that train the trial."""
        return self._rendezvous_info.container_addrs

    @property
    def container_slot_counts(self) -> list[int]:
        """Number of slots of each machine."""
        return self._rendezvous_info.container_slot_counts

    @property
    def container_rank(self) -> int:
        """Number of this machine among those that train the trial."""
        return self._rendezvous_info.container_rank

    @property
    def gpu_uuids(self) -> list[str]:
        """The GPUs of the trial."""
        return self._resources_info.gpu_uuids


_info: tuple[Trial, ClusterInfo] | None = None


def get_cluster_info() -> ClusterInfo | None:
    """Return what is known about the trial of this process, or None outside an experiment."""
    global _info
    trial = current_trial()
    if trial is None:
        return None
    if _info is None or _info[0] is not trial:
        _info = trial, ClusterInfo(trial)
    return _info[1]


def current_trial() -> Trial | None:
    """Return the trial of this process, or None outside an experiment.  The first call says so in the trial's log."""
    trial = experiments_trial()
    if trial is None:
        return None
    attempt = f"{trial.id} {trial.attempt}"
    if os.environ.get(_SAID) != attempt:
        os.environ[_SAID] = attempt  # Processes that this one starts do not say it again.
        if os.environ.get("RANK", "0") == "0":
            print(
                "The package determined is not installed; ashwood.integrations.determined takes its place.", flush=True
            )
    return trial


def latest_identity(trial: Trial) -> Identity | None:
    """Return the identity of the checkpoint that a trial continues from, or None if there is none."""
    directory, name = trial.checkpoint, trial._attempt.job.checkpoint
    return None if directory is None or name is None else Identity.read(directory, name)


def _steps_completed(trial: Trial) -> int:
    directory, name = trial._checkpoint, trial._attempt.job.checkpoint
    if directory is None or name is None:
        return 0
    return Identity.read(directory, name).steps_completed or 0


def slots_of_trial() -> int:
    """Return the number of slots of this process's trial: its GPUs, or ``resources.slots_per_trial``."""
    gpus = _gpus()
    slots = os.environ.get(SLOTS, "")
    return len(gpus) or (int(slots) if slots.isdecimal() else 1)


def _gpus() -> list[str]:
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [name for name in names if name not in ("", "-1")]


def configuration(job: WorkerJob) -> dict[str, Any]:
    """Return the experiment's configuration in the form of an experiment file.

    Settings that the file does not have are as far as possible those with which the trial runs.
    """

    def length(count: int, unit: str) -> Any:
        return count if unit == STEPS else {unit: count}

    config: dict[str, Any] = plain(job.config) | {
        "name": job.experiment_name,
        "data": plain(job.data),
        "hyperparameters": plain(job.config.get("hyperparameters"))
        or {name: {"type": "const", "val": plain(value)} for name, value in job.hparams.items()},
        "records_per_epoch": job.records_per_epoch or 0,
        "resources": plain(job.config.get("resources") or {}) | {"slots_per_trial": slots_of_trial()},
        "searcher": plain(job.config.get("searcher") or {})
        | {
            "metric": job.metric,
            "smaller_is_better": job.smaller_is_better,
        },
    }
    if not job.open_ended:
        config["searcher"]["max_length"] = length(job.max_length, job.unit)
    for name, period in (
        ("min_validation_period", job.validation_period),
        ("min_checkpoint_period", job.checkpoint_period),
    ):
        if period is not None:
            config[name] = length(*period)
    for key, value in plain(_DEFAULTS).items():
        config[key] = value | (config.get(key) or {}) if isinstance(value, dict) else config.get(key, value)
    return config


def plain(value: Any) -> Any:
    """Return a copy of a value that consists of dictionaries, lists and plain values."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
