"""Where the trials of an experiment run: on this machine, or on a cluster."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ashwood.backends.local import LocalBackend, clear_former_workers
from ashwood.backends.local.fence import is_held
from ashwood.backends.local.reservation import reserve
from ashwood.backends.port import Backend
from ashwood.errors import BackendError
from ashwood.eventlog.home import Home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec, RayCluster
from ashwood.trial.sharing import how_to_share, share

if TYPE_CHECKING:
    from ashwood.backends.ray import RayBackend
    from ashwood.backends.ray.cluster import Cluster

Sleep = Callable[[float], None]
OnWait = Callable[[int, float], None]


class ReservationOptions(NamedTuple):
    """How a driver gets GPUs of this machine; see `ashwood.backends.local.reservation.reserve`."""

    share: bool
    say: Callable[[str], None]
    on_wait: Callable[[str], None]
    sleep: Sleep


class WorkerHost(Protocol):
    """A host where trials of one experiment run."""

    def clear(self, sleep: Sleep, on_wait: OnWait) -> None:
        """Wait until no worker of a former driver is left.

        Args:
            sleep: called with a moment's seconds while it waits.
            on_wait: called once if there is somebody to wait for, with how many, and for how many seconds at most.

        Raises:
            BackendError: somebody is left who can't be ended.
        """
        ...

    def collect_checkpoints(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        """Receive checkpoints that workers could not hand to a former driver, and yield the name of each.

        Call `clear` before.  What a node holds is removed from it only after the caller asked for the next name:
        a driver that dies before it has recorded a checkpoint leaves it for the next driver.

        Args:
            wanted: tells by its name whether a checkpoint is received.
        """
        ...

    def clean(self) -> None:
        """Remove what workers left on their machines; call it when the experiment has ended and no worker is left."""
        ...

    def backend(self, workers: int | None, reservation: ReservationOptions) -> AbstractContextManager[Backend]:
        """What runs trials there, with so many workers at most; None: as many as there is reservation for.

        Raises:
            BackendError: no trial can run there.
        """
        ...


@contextmanager
def worker_host(
    home: Home, experiment: ExperimentId, spec: ExperimentSpec, cluster: RayCluster | None
) -> Iterator[WorkerHost]:
    """The host of an experiment's trials: a cluster, or this machine.

    Raises:
        ClusterError: the cluster can't be used.
    """
    here = LocalHost(home, experiment, spec)
    if cluster is None:
        yield here
        return
    # Only who uses a cluster needs Ray, and waits for it.
    from ashwood.backends.ray.cluster import connected

    with connected(cluster, spec) as connection:
        yield RayHost(here, connection)


class LocalHost:
    """Processes on this machine.

    Attributes:
        home: where the experiment lives.
        experiment: which it is.
        spec: what it is.
    """

    def __init__(self, home: Home, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        self.home = home
        self.experiment = experiment
        self.spec = spec
        self._fence = home.directory(experiment) / "workers.lock"

    def clear(self, sleep: Sleep, on_wait: OnWait) -> None:
        """Wait for the processes that hold the experiment's lock file."""
        with suppress(OSError):
            holder = self._fence.read_text().strip()
            if holder not in ("", self.spec.identity) and is_held(self._fence):
                raise BackendError(
                    f"{self._fence} is locked by workers of the experiment with identity {holder}, not of this one, "
                    f"which has identity {self.spec.identity}: was the directory of another experiment moved here? "
                    "Wait until those workers have ended"
                )
        try:
            clear_former_workers(self._fence, on_wait=on_wait, sleep=sleep)
        except PermissionError as error:
            raise BackendError(
                f"you may not write {self._fence}, which workers lock: {how_to_share(self._fence, self.home.path)}"
            ) from error

    def collect_checkpoints(self, wanted: Callable[[str], bool]) -> Iterator[str]:  # noqa: ARG002 - as `WorkerHost` has it
        """Yield nothing: workers save to where the driver reads."""
        return iter(())

    def clean(self) -> None:
        """Do nothing: workers keep all files in the experiment's directory."""

    @contextmanager
    def backend(self, workers: int | None, reservation: ReservationOptions) -> Iterator[LocalBackend]:
        """One worker process a slot, on GPUs that no other driver has reserved."""
        with suppress(OSError):
            self._fence.write_text(self.spec.identity)
            share(self._fence)
        who = f"experiment {self.experiment} of {self.home.name}, process {os.getpid()}"
        with (
            reserve(self.spec, workers, who, **reservation._asdict()) as reservation,
            LocalBackend(
                self.spec,
                checkpoints=self.home.checkpoints(self.experiment, self.spec),
                logs=self.home.logs(self.experiment),
                workers=reservation.workers,
                fence=self._fence,
                machine=reservation.machine,
                locks=reservation.inherited,
                number=self.experiment,
            ) as backend,
        ):
            yield backend


class RayHost:
    """Actors of a Ray cluster."""

    def __init__(self, here: LocalHost, cluster: Cluster) -> None:
        self._here = here
        self._cluster = cluster
        self._backend: RayBackend | None = None
        record = here.home.store.record(here.experiment)
        self._state = record.state
        # The same for each driver, on any machine and by whatever name the home is opened; not so for an experiment of
        # another home.
        identity = here.spec.identity
        text = f"{here.home.identity}\0{record.id}\0{record.created_at!r}\0{identity or here.spec.seed}"
        self._key = f"ashwood-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"

    def clear(self, sleep: Sleep, on_wait: OnWait) -> None:
        """Those of the cluster, and any on this machine."""
        if self._state is not ExperimentState.CREATED and not self._state.ended:
            self._cluster.shape_for(self._here.spec)  # Without a node for a trial, nothing is worth waiting for.
        self._here.clear(sleep, on_wait)
        if self._state is not ExperimentState.CREATED:
            self._cluster.dismiss_former(self._key, sleep, on_wait)

    def collect_checkpoints(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        """From every node of the cluster, if checkpoints travel to the driver."""
        # Also if it was paused: its driver could not fetch what lies beside a worker that had died.
        if self._state is ExperimentState.CREATED or self._shared:
            return iter(())
        storage = self._here.home.storage(self._here.experiment, self._here.spec)
        return self._cluster.collect_checkpoints(self._key, storage, wanted)

    def clean(self) -> None:
        """Remove directories of workers that could not do so themselves, of this driver or a former one."""
        if self._state is not ExperimentState.CREATED or (self._backend is not None and self._backend.left_files):
            with suppress(Exception):  # whatever Ray has against it: the experiment has ended, and nothing is lost
                self._cluster.clean(self._key)

    def backend(self, workers: int | None, reservation: ReservationOptions) -> AbstractContextManager[Backend]:  # noqa: ARG002
        """Workers where Ray finds reservation for them.  Ray assigns GPUs, so none is reserved here."""
        from ashwood.backends.ray import RayBackend

        self._backend = RayBackend(
            self._here.spec,
            self._cluster,
            key=self._key,
            checkpoints=self._here.home.checkpoints(self._here.experiment, self._here.spec),
            shared=self._shared,
            logs=self._here.home.logs(self._here.experiment),
            workers=workers,
            number=self._here.experiment,
        )
        return self._backend

    @property
    def _shared(self) -> bool:
        """Whether checkpoints are where nodes reach them: a home is on this machine alone."""
        return self._here.spec.checkpoint_storage is not None
