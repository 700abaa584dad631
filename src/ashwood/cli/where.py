"""``--backend`` and ``--ray-address``: where trials run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from ashwood.backends.local.slots import machine_for
from ashwood.config import Loaded, parse_backend
from ashwood.engine.session import Cluster
from ashwood.errors import ConfigError, MachineError, Problem
from ashwood.experiment.spec import RayCluster


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Options of the backend; each is None if the file or the recorded experiment decides.

    Attributes:
        backend: ``local`` or ``ray``.
        ray_address: address of the head of the Ray cluster, which implies ``ray``.

    Raises:
        ConfigError: the address is wrong, or it is combined with the backend ``local``.
    """

    backend: str | None = None
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.ray_address is not None:
            if self.backend == "local":
                raise ConfigError([Problem("", "needs --backend ray, not local", "--ray-address")])
            parse_backend({"type": "ray", "address": self.ray_address})

    @property
    def overrides(self) -> list[str]:
        """The options as values for ``--set``, which replace those of a file."""
        if self.backend == "local":
            return ["backend=local"]
        # Only these keys are replaced; the file's other settings of the cluster stay.
        kind = [] if self.backend is self.ray_address is None else ["backend.type=ray"]
        return kind if self.ray_address is None else [*kind, f"backend.address={json.dumps(self.ray_address)}"]

    @property
    def options(self) -> list[str]:
        """The options as arguments for another command."""
        given = {"--backend": self.backend, "--ray-address": self.ray_address}
        return [word for option, value in given.items() if value is not None for word in (option, value)]

    def cluster(self, recorded: RayCluster | None) -> Cluster:
        """Return the cluster of a session; ``recorded`` is that of the experiment, or None if it is local."""
        if self.backend is self.ray_address is None:
            return "recorded"
        if self.backend == "local":
            return "local"
        cluster = recorded or RayCluster()
        return cluster if self.ray_address is None else replace(cluster, address=self.ray_address)


def check_room(loaded: Loaded, workers: int | None = None) -> None:
    """Check that a trial fits this machine, if the experiment runs on it.

    Args:
        loaded: the experiment.
        workers: number of workers, or None for as many as fit.

    Raises:
        ConfigError: no trial fits.
    """
    spec = loaded.spec
    # On a cluster a node that is large enough may join later.
    if spec.ray is not None or spec.slots_per_trial == 1:
        return
    try:
        machine_for(spec, workers)
    except MachineError as error:
        raise loaded.refuse_slots(str(error)) from None
