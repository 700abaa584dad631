"""Deletion removes only files of the experiment itself, whatever paths its spec contains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.checkpoints import CheckpointInfo
from ashwood.checkpoints.trees import name_below, remove_tree
from ashwood.engine import Home, open_home
from ashwood.engine.removal import CODE, remove_experiment
from ashwood.experiment.spec import IMPORTED, ExperimentSpec
from tests.engine.test_bundle import SPEC

NAME = "trial-0/length-3-attempt-1"


def write(directory: Path) -> None:
    (directory / "model").write_text("weights")


def below(top: Path) -> set[str]:
    """Everything in a directory except the database."""
    return {str(path.relative_to(top)) for path in top.rglob("*") if not path.name.startswith("ashwood.db")}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home", create=True) as opened:
        yield opened


def create(home: Home, spec: ExperimentSpec = SPEC) -> int:
    """An experiment with a file in its directory."""
    experiment = home.create(spec, at=0.0)
    (home.directory(experiment) / "kept").write_text("")
    return experiment


def code(home: Home, name: str) -> Path:
    directory = home.path / CODE / name
    directory.mkdir(parents=True)
    (directory / "train.py").write_text("")
    return directory


# Pieces of which hostile paths are made; {home} and {out} are put in as absolute directories.
_PIECES = st.sampled_from(["..", ".", "code", "experiments", "x", "2", "link", "", "sources", "checkpoints", "\0"])
_HOSTILE = st.builds(
    lambda start, pieces: "/".join([start, *pieces]),
    st.sampled_from(["{home}/code", "{home}", "{home}/experiments", "{out}", "/", "relative", "{home}/sources"]),
    st.lists(_PIECES, max_size=5),
)


@given(workdir=_HOSTILE, storage=st.none() | _HOSTILE, source=st.none() | _HOSTILE, imported=st.booleans())
def test_deletion_ignores_paths_in_spec(
    tmp_path_factory: pytest.TempPathFactory, workdir: str, storage: str | None, source: str | None, imported: bool
) -> None:
    top = tmp_path_factory.mktemp("hostile")
    out = top / "out"
    (out / "precious").mkdir(parents=True)
    with open_home(top / "home", create=True) as home:
        (code(home, "x").parent / "link").symlink_to(out)
        other = create(home)
        home.storage(other, SPEC).save(NAME, write)
        places = {"home": str(home.path), "out": str(out)}
        spec = replace(
            SPEC,
            workdir=workdir.format(**places),
            checkpoint_storage=storage and storage.format(**places),
            source_checkpoint=source and source.format(**places),
            provenance={IMPORTED: 1} if imported else {},
        )
        before = below(top)
        remove_experiment(home, create(home, spec))
        lost = before - below(top)
    # Deleting an experiment removes the code that was checked out for it, which is one directory.
    allowed = (
        {"home/code/x", "home/code/x/train.py"} if name_below(home.path / CODE, Path(spec.workdir)) == "x" else set()
    )
    assert lost <= (set() if imported else allowed)


def test_code_is_deleted_with_last_experiment_that_uses_it(home: Home) -> None:
    used = code(home, "abc")
    first, second = (create(home, replace(SPEC, workdir=str(used / "deeper"))) for _ in range(2))
    remove_experiment(home, first)
    assert used.is_dir()
    remove_experiment(home, second)
    assert not used.exists()
    assert (home.path / CODE).is_dir()


def test_deletion_of_imported_experiment_keeps_code(home: Home) -> None:
    used = code(home, "abc")
    remove_experiment(home, create(home, replace(SPEC, workdir=str(used), provenance={IMPORTED: 1})))
    assert used.is_dir()


def test_deletion_does_not_follow_link_to_checkpoints(home: Home, tmp_path: Path) -> None:
    experiment = create(home)
    large = tmp_path / "large disk"
    large.mkdir()
    (large / "kept").write_text("")
    (home.directory(experiment) / "checkpoints").symlink_to(large)
    remove_experiment(home, experiment)
    assert (large / "kept").exists()
    assert not (home.path / "experiments" / str(experiment)).exists()


def test_deletion_does_not_follow_links_in_trial_directories(home: Home, tmp_path: Path) -> None:
    experiment = create(home)
    large = tmp_path / "large disk"
    large.mkdir()
    (large / "kept").write_text("")
    directory = home.trial_directories(experiment) / "0-0123abcd"
    directory.mkdir(parents=True)
    (directory / "data").symlink_to(large)
    (directory.parent / "1-0123abcd").symlink_to(large)
    remove_experiment(home, experiment)
    assert (large / "kept").exists()
    assert not home.files(experiment).exists()


def test_deletion_keeps_other_checkpoints_in_shared_storage(home: Home, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    spec = replace(SPEC, checkpoint_storage=str(place), checkpoint_policy=SPEC.checkpoint_policy)
    experiment = create(home, spec)
    storage = home.storage(experiment, spec)
    identity = home.store.spec(experiment).identity
    storage.save(NAME, write, lambda: CheckpointInfo(experiment=identity))
    storage.save("trial-1/length-3-attempt-1", write, lambda: CheckpointInfo(experiment="another"))
    storage.save("trial-2/length-3-attempt-1", write)  # which says nothing of its experiment
    (place / "notes.txt").write_text("mine")
    remove_experiment(home, experiment)
    assert [stored.trial for stored in storage.complete()] == [1, 2]
    assert (place / "notes.txt").exists()


def test_checkpoints_without_identity_are_deleted_with_only_experiment_of_storage(home: Home, tmp_path: Path) -> None:
    spec = replace(SPEC, checkpoint_storage=str(tmp_path / "elsewhere"))
    experiment = create(home, spec)
    storage = home.storage(experiment, spec)
    storage.save(NAME, write)
    place = Path(home.checkpoints(experiment, spec))
    remove_experiment(home, experiment)
    assert not place.exists()


def test_experiment_with_damaged_spec_can_be_deleted(home: Home) -> None:
    experiment = create(home)
    home.store._commit(lambda t: t.run("UPDATE experiments SET spec = '{' WHERE id = ?", experiment))  # type: ignore[attr-defined]
    remove_experiment(home, experiment)
    assert home.store.experiments() == []
    assert not (home.path / "experiments" / str(experiment)).exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "../x", "a\0b"])
def test_remove_tree_refuses_names_outside_of_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a file"):
        remove_tree(tmp_path, name)


def test_remove_tree_accepts_file_link_and_missing_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "nothing"):
        remove_tree(tmp_path, name)
    assert list(tmp_path.iterdir()) == []
