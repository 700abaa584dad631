"""Worker hosts: where the trials of an experiment run, on this machine or on a Ray cluster."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.reservation import reserve
from ashwood.backends.local.worker_lock import clear_former_workers, is_held
from ashwood.backends.port import Backend
from ashwood.checkpoints.sharing import how_to_share, share
from ashwood.errors import BackendError
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec, RayCluster

if TYPE_CHECKING:
    from ashwood.backends.ray.backend import RayBackend
    from ashwood.backends.ray.cluster import Cluster

Sleep = Callable[[float], None]
"""Sleeps for a number of seconds; it may also renew a lease."""

OnWait = Callable[[int, float], None]
"""Called with the number of workers that are waited for, and the maximum number of seconds."""


class ReservationOptions(NamedTuple):
    """Options for reserving GPUs of this machine; see `ashwood.backends.local.reservation.reserve`."""

    share: bool
    say: Callable[[str], None]
    on_wait: Callable[[str], None]
    sleep: Sleep


class WorkerHost:
    """A machine or a cluster on which the workers of one experiment run.  This base class is that of this machine.

    Attributes:
        home: the home of the experiment.
        experiment: the ID of the experiment.
        spec: the spec of the experiment.
    """

    def __init__(self, home: Home, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        self.home = home
        self.experiment = experiment
        self.spec = spec
        self._lock = home.directory(experiment) / "workers.lock"

    def clear(self, sleep: Sleep, on_wait: OnWait) -> None:
        """Wait until all workers of former drivers have ended: the processes that hold the worker lock.

        Args:
            sleep: called again and again to wait for a short time.
            on_wait: called once if there are such workers.

        Raises:
            BackendError: a worker cannot be ended.
        """
        with suppress(OSError):
            holder = self._lock.read_text().strip()
            if holder not in ("", self.spec.identity) and is_held(self._lock):
                raise BackendError(
                    f"{self._lock} is locked by workers of the experiment with identity {holder}, not of this one, "
                    f"which has identity {self.spec.identity}. Was the directory of another experiment moved here? "
                    "Wait until those workers have ended, then try again"
                )
        try:
            clear_former_workers(self._lock, on_wait=on_wait, sleep=sleep)
        except PermissionError as error:
            raise BackendError(
                f"no permission to write {self._lock}, which workers lock: {how_to_share(self._lock, self.home.path)}"
            ) from error

    def collect_checkpoints(self, wanted: Callable[[str], bool]) -> Iterator[str]:  # noqa: ARG002 - `RayHost` needs it
        """Receive checkpoints that workers could not transfer to a former driver, and yield the name of each.

        Local workers save directly to the storage, so there are none.  Call `clear` first, because a worker may still
        write a checkpoint.  The caller records each checkpoint before it asks for the next name, and only then is the
        checkpoint deleted from its node.  So if this driver dies before it has recorded a checkpoint, the next driver
        can still receive it.

        Args:
            wanted: returns whether the checkpoint with a name is needed.
        """
        return iter(())

    def clean(self) -> None:
        """Delete files that workers left on other machines, after the experiment and all its workers have ended."""

    @contextmanager
    def backend(self, workers: int | None, options: ReservationOptions) -> Iterator[Backend]:
        """Yield the backend that runs trials here; on this machine, GPUs are reserved for it.

        Args:
            workers: maximum number of workers, or None for one in each slot.
            options: options for reserving GPUs.

        Raises:
            BackendError: no trial can run here.
        """
        with suppress(OSError):
            self._lock.write_text(self.spec.identity)
            share(self._lock)
        user = f"experiment {self.experiment} of {self.home.name}, process {os.getpid()}"
        with (
            reserve(self.spec, workers, user, **options._asdict()) as reservation,
            LocalBackend(
                self.spec,
                checkpoints=self.home.checkpoints(self.experiment, self.spec),
                logs=self.home.logs(self.experiment),
                workers=reservation.workers,
                worker_lock=self._lock,
                machine=reservation.machine,
                locks=reservation.inherited,
                number=self.experiment,
            ) as backend,
        ):
            yield backend


class RayHost(WorkerHost):
    """A worker host whose workers are actors of a Ray cluster."""

    def __init__(self, home: Home, experiment: ExperimentId, spec: ExperimentSpec, cluster: Cluster) -> None:
        super().__init__(home, experiment, spec)
        self._cluster = cluster
        self._backend: RayBackend | None = None
        record = home.store.record(experiment)
        self._state = record.state
        # The key must be the same for each driver of the experiment, on any machine and for any path of its home, so
        # that a driver finds the actors and files of a former one.  It must differ for experiments of other homes.
        text = f"{home.identity}\0{record.id}\0{record.created_at!r}\0{spec.identity or spec.seed}"
        self._key = f"ashwood-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"

    def clear(self, sleep: Sleep, on_wait: OnWait) -> None:
        """Wait for former workers on this machine, then for those on the cluster."""
        if self._state is not ExperimentState.CREATED and not self._state.ended:
            self._cluster.shape_for(self.spec)  # This call raises an error if no node can run a trial.
        super().clear(sleep, on_wait)
        if self._state is not ExperimentState.CREATED:
            self._cluster.dismiss_former(self._key, sleep, on_wait)

    def collect_checkpoints(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        """Receive checkpoints from all nodes of the cluster, unless nodes save to a shared storage."""
        # This is needed after a pause, too: if a worker dies, its driver cannot fetch the checkpoints on its node.
        if self._state is ExperimentState.CREATED or self._shared:
            return iter(())
        storage = self.home.storage(self.experiment, self.spec)
        return self._cluster.collect_checkpoints(self._key, storage, wanted)

    def clean(self) -> None:
        """Delete directories that workers of this driver or a former one could not delete themselves."""
        if self._state is not ExperimentState.CREATED or (self._backend is not None and self._backend.left_files):
            with suppress(Exception):  # The files are not needed, so an error is ignored.
                self._cluster.clean(self._key)

    @contextmanager
    def backend(self, workers: int | None, options: ReservationOptions) -> Iterator[Backend]:  # noqa: ARG002
        """Yield the backend for the cluster.  Ray assigns GPUs, so none is reserved here."""
        from ashwood.backends.ray.backend import RayBackend

        with RayBackend(
            self.spec,
            self._cluster,
            key=self._key,
            checkpoints=self.home.checkpoints(self.experiment, self.spec),
            shared=self._shared,
            logs=self.home.logs(self.experiment),
            workers=workers,
            number=self.experiment,
        ) as self._backend:
            yield self._backend

    @property
    def _shared(self) -> bool:
        """Whether nodes save checkpoints to the same storage as the driver; they cannot reach its home."""
        return self.spec.checkpoint_storage is not None


@contextmanager
def worker_host(
    home: Home, experiment: ExperimentId, spec: ExperimentSpec, cluster: RayCluster | None
) -> Iterator[WorkerHost]:
    """Connect to the worker host of an experiment: to a cluster, or to this machine if ``cluster`` is None.

    Raises:
        ClusterError: the cluster cannot be used.
    """
    if cluster is None:
        yield WorkerHost(home, experiment, spec)
        return
    # Importing Ray takes seconds, and it may not be installed, so it is imported only if a cluster is used.
    from ashwood.backends.ray.cluster import connected

    with connected(cluster, spec) as connection:
        yield RayHost(home, experiment, spec, connection)
