from pathlib import Path

from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.port import Backend
from ashwood.experiment.spec import ExperimentSpec
from ashwood.testing.process_backend import ProcessBackendContract


class TestLocalBackend(ProcessBackendContract):
    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        return LocalBackend(spec, checkpoints=directory / "checkpoints", logs=directory / "logs", workers=2)


class TestLocalBackendWithAProcessPerAttempt(ProcessBackendContract):
    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        return LocalBackend(
            spec, checkpoints=directory / "checkpoints", logs=directory / "logs", workers=2, process_per_attempt=True
        )
