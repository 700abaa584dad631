from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local.backend import LocalBackend
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.testing.backend import toy_spec
from tests.backends.helpers import Make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes local backends over code in ``tmp_path``, and closes them after the test."""
    made: list[LocalBackend] = []

    def make(
        target: str,
        kind: EntrypointKind = EntrypointKind.FUNCTION,
        *,
        workers: int = 1,
        process_per_attempt: bool | None = None,
        **changes: Any,
    ) -> LocalBackend:
        spec = toy_spec(tmp_path, entrypoint=Entrypoint(kind, target), **changes)
        made.append(
            LocalBackend(
                spec,
                checkpoints=tmp_path / "checkpoints",
                logs=tmp_path / "logs",
                workers=workers,
                process_per_attempt=process_per_attempt,
            )
        )
        return made[-1]

    yield make
    for backend in made:
        backend.close()
