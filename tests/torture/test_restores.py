"""An older copy of the database, restored under an experiment, leads to no wrong result."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.postgres import PostgresServer, find_programs

from .restores import Ordeal, postgres_database, sqlite_database


def test_restored_copy_leads_to_no_wrong_result(tmp_path: Path) -> None:
    ordeal = Ordeal(sqlite_database(tmp_path), tmp_path, Random(3))
    ordeal.run()
    assert ordeal.complaints == [], ordeal.steps


@pytest.mark.slow
def test_restored_dump_of_postgres_leads_to_no_wrong_result(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASHWOOD_FILES", str(tmp_path / "files"))
    ordeal = Ordeal(postgres_database(tmp_path, postgres.fresh_database(), find_programs()), tmp_path, Random(3))
    ordeal.run()
    assert ordeal.complaints == [], ordeal.steps
