"""Experiments that start from a checkpoint of another experiment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.checkpoints import MANIFEST, CheckpointInfo, Storage
from ashwood.engine import Home, Session, open_home
from ashwood.engine.removal import remove_experiment
from ashwood.engine.sources import keep_source
from ashwood.errors import CheckpointError
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CheckpointSaved

from .test_loop import SPEC

NAME = "trial-0/length-1-attempt-1"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home", create=True) as opened:
        yield opened


@pytest.fixture
def original(home: Home) -> Storage:
    """The checkpoints of experiment 1, whose trial 0 has saved one."""
    experiment = home.store.create(SPEC, at=0.0)
    storage = home.storage(experiment, SPEC)
    storage.save(NAME, write, lambda: CheckpointInfo({"loss": 0.5}))
    home.store.log(experiment).append([Entry(1.0, CheckpointSaved(0, 1, 1, NAME), ())])
    return storage


def write(directory: Path) -> None:
    (directory / "model.pt").write_text("weights")
    (directory / "optimizer").mkdir()
    (directory / "optimizer" / "state.pt").symlink_to("../model.pt")


def started_from(home: Home, source: str) -> Session:
    return Session.create(home, replace(SPEC, source_checkpoint=source), at=2.0)


def contents(home: Home, session: Session) -> dict[str, str]:
    """What a trial of an experiment starts from."""
    assert session.spec.source_checkpoint is not None
    with home.storage(session.id, session.spec).fetch(session.spec.source_checkpoint) as directory:
        return {name: (directory / name).read_text() for name in ("model.pt", "optimizer/state.pt")}


@pytest.mark.parametrize("by_name", ["1/0", f"1/{NAME}", None])
def test_source_checkpoint_outlives_the_experiment_that_saved_it(
    home: Home, original: Storage, by_name: str | None
) -> None:
    session = started_from(home, by_name or original.locate(NAME))
    original.delete(NAME)
    assert contents(home, session) == {"model.pt": "weights", "optimizer/state.pt": "weights"}
    remove_experiment(home, 1)
    assert contents(home, session) == {"model.pt": "weights", "optimizer/state.pt": "weights"}


def test_source_checkpoint_is_linked_and_shared(home: Home, original: Storage) -> None:
    first, second = started_from(home, "1/0"), started_from(home, "1/0")
    assert first.spec.source_checkpoint == second.spec.source_checkpoint
    assert Path(str(first.spec.source_checkpoint), "model.pt").samefile(Path(original.locate(NAME), "model.pt"))


def test_source_checkpoint_is_copied_if_it_cannot_be_linked(
    home: Home, original: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    session = started_from(home, "1/0")
    original.delete(NAME)
    assert contents(home, session)["model.pt"] == "weights"


def test_source_checkpoint_is_deleted_with_the_last_experiment_that_starts_from_it(
    home: Home, original: Storage
) -> None:
    first, second = started_from(home, "1/0"), started_from(home, "1/0")
    remove_experiment(home, first.id)
    assert contents(home, second)["model.pt"] == "weights"
    remove_experiment(home, second.id)
    with pytest.raises(CheckpointError):
        contents(home, second)
    with original.fetch(NAME):
        pass


def test_source_checkpoint_without_a_manifest_is_kept_too(home: Home, original: Storage) -> None:
    Path(original.locate(NAME), MANIFEST).unlink()  # as version 1 left them
    session = started_from(home, original.locate(NAME))
    original.delete(NAME)
    assert contents(home, session)["model.pt"] == "weights"


def test_experiments_that_start_at_once_share_one_source_checkpoint(home: Home, original: Storage) -> None:
    def keep(_nth: int) -> str:
        return keep_source(home, original.locate(NAME))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(keep, range(32)))) == 1


def test_source_checkpoint_outside_the_home_is_used_where_it_is(home: Home, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / NAME
    place.mkdir(parents=True)
    write(place)
    session = started_from(home, str(place))
    assert session.spec.source_checkpoint == str(place)
    remove_experiment(home, session.id)
    assert place.exists()
