"""Folds that start from a snapshot give the same state as folds from the first entry."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ashwood.engine.loop import Engine
from ashwood.errors import ReplayDivergence
from ashwood.eventlog import fold_cache
from ashwood.eventlog.fold_cache import Folded, fold, save
from ashwood.experiment.decisions import PauseTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.experiment import Experiment
from tests.eventlog.memory_store import MemoryLog
from tests.experiment.world import state_of

from .instant_backend import InstantBackend
from .test_loop import SPEC, entries, new_log, objective


@pytest.fixture(scope="module")
def whole() -> list[Entry]:
    log = new_log()
    Engine(Experiment(SPEC), log, InstantBackend(objective)).run()
    return entries(log)


def log_of(some: list[Entry]) -> MemoryLog:
    log = new_log()
    log.append(some)
    return log


def states(folded: Folded) -> object:
    return state_of(folded.experiment), folded.progress.summary(), folded.seq, folded.last


def test_fold_from_snapshot_equals_fold_from_beginning(whole: list[Entry], tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    for cut in range(1, len(whole), 7):
        save(path, fold(SPEC, log_of(whole[:cut])))
        assert states(fold(SPEC, log_of(whole), path)) == states(fold(SPEC, log_of(whole)))


def test_progress_has_search_with_and_without_snapshot(whole: list[Entry], tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    fresh = fold(SPEC, log_of(whole[:-1]))
    assert fresh.progress.search is fresh.experiment.search
    save(path, fresh)
    again = fold(SPEC, log_of(whole), path)
    assert again.progress.search is again.experiment.search


def test_fold_skips_entries_in_snapshot(whole: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "snapshot"
    save(path, fold(SPEC, log_of(whole)))
    monkeypatch.setattr("ashwood.eventlog.fold_cache._check_entry", lambda *_: pytest.fail("folded again"))
    assert fold(SPEC, log_of(whole), path).seq == len(whole)


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"x" + data[41:]])
def test_damaged_snapshot_is_ignored(whole: list[Entry], tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "snapshot"
    save(path, fold(SPEC, log_of(whole)))
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    assert states(fold(SPEC, log_of(whole), path)) == states(fold(SPEC, log_of(whole)))


def test_snapshot_of_other_log_is_ignored(whole: list[Entry], tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    save(path, fold(SPEC, log_of(whole)))
    shorter = whole[: len(whole) // 2]
    assert fold(SPEC, log_of(shorter), path).seq == len(shorter)
    later = [entry._replace(at=entry.at + 1) for entry in whole[:-1]]
    assert fold(SPEC, log_of(later), path).seq == len(later)


def test_snapshot_of_other_code_is_ignored(whole: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "snapshot"
    at = next(i for i, entry in enumerate(whole) if any(isinstance(d, PauseTrial) for d in entry.decisions))
    tampered = [*whole[:at], whole[at]._replace(decisions=()), *whole[at + 1 :]]
    save(path, fold(SPEC, log_of(whole)))
    assert fold(SPEC, log_of(tampered), path).seq == len(whole)
    monkeypatch.setattr(fold_cache, "_code_digest", lambda: b"other")
    with pytest.raises(ReplayDivergence, match=f"entry {at + 1} "):
        fold(SPEC, log_of(tampered), path)


def test_code_digest_has_16_bytes_and_experiments_can_be_pickled() -> None:
    assert len(fold_cache._code_digest()) == 16
    assert pickle.loads(pickle.dumps(Experiment(SPEC))).search.snapshot() == Experiment(SPEC).search.snapshot()


def test_save_ignores_error(whole: list[Entry], tmp_path: Path) -> None:
    save(tmp_path / "nowhere" / "snapshot", fold(SPEC, log_of(whole)))
    save(tmp_path / "snapshot", fold(SPEC, new_log()))
    assert not list(tmp_path.iterdir())
