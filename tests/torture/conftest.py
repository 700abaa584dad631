import pytest

from .experiment import torture
from .oracle import Evidence
from .scenarios import SMALLEST


@pytest.fixture(scope="session")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """An undisturbed run of the smallest experiment."""
    return torture(SMALLEST, tmp_path_factory.mktemp("smallest"), 0, iter(())).evidence
