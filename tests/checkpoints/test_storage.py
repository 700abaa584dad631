"""What every storage promises, local or remote."""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashwood.checkpoints import (
    MANIFEST,
    CheckpointInfo,
    Storage,
    Stored,
    Write,
    checkpoint_name,
    join_url,
    named_position,
    open_storage,
)
from ashwood.checkpoints.links import copy_contents, settle_links
from ashwood.checkpoints.port import Name, parsed
from ashwood.errors import CheckpointError, StorageUnreachable, TrainingCodeError
from ashwood.trial.run import cause_of
from tests.checkpoints.storages import NAME, Files, contents, writes
from tests.s3 import S3


@pytest.fixture(params=["local", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "local":
            return str(tmp_path / "checkpoints")
        case "memory":
            return f"memory://{uuid.uuid4()}/prefix"
    s3: S3 = request.getfixturevalue("s3")
    return s3.new_place()


@pytest.fixture
def storage(url: str) -> Storage:
    return open_storage(url)


@pytest.fixture
def files(url: str) -> Files:
    return Files(url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashwood.checkpoints.patience._FIRST_PAUSE", 0.0)


# -- saving and fetching ----------------------------------------------------------------------


def test_saved_checkpoint_is_fetched(storage: Storage, files: Files) -> None:
    storage.save(NAME, writes(model="weights", optimizer__state=b"\0\xff", empty=""))
    assert contents(storage, NAME) == {"model.pt": b"weights", "optimizer/state.pt": b"\0\xff", "empty.pt": b""}
    manifest = json.loads(files.read(f"{NAME}/{MANIFEST}"))
    assert (manifest["trial"], manifest["length"], manifest["attempt"], manifest["size"]) == (3, 4, 1, 9)


def test_folders_without_files_are_kept(storage: Storage) -> None:
    storage.save(NAME, lambda directory: (directory / "nothing" / "inside").mkdir(parents=True))
    with storage.fetch(NAME) as directory:
        assert (directory / "nothing" / "inside").is_dir()


def writes_links(links: Mapping[str, str], outside: Path = Path()) -> Write:
    """Return a checkpoint callable that writes two files and links; ``{here}`` in a target is its directory."""

    def write(directory: Path) -> None:
        for folder in ("step", "other"):
            (directory / folder).mkdir()
        (directory / "step" / "model").write_text("weights of a step")
        (directory / "model").write_text("weights")
        (outside / "back").unlink(missing_ok=True)
        (outside / "back").symlink_to(directory)
        for link, target in links.items():
            (directory / link).symlink_to(target.format(here=directory, outside=outside))

    return write


KEPT_LINKS = {
    "to a file": ({"last": "model"}, {"last": "model"}),
    "absolute, to a file": ({"last": "{here}/model"}, {"last": "model"}),
    "to a folder": ({"last": "step/"}, {"last": "step"}),
    "absolute, to a folder": ({"last": "{here}/step"}, {"last": "step"}),
    "from a folder": ({"step/last": "{here}/model"}, {"step/last": "../model"}),
    "in a detour": ({"last": "step/.././step/../model"}, {"last": "model"}),
    "in a chain": ({"first": "{here}/step", "last": "first"}, {"first": "step", "last": "first"}),
    "through a link": ({"first": "step", "last": "first/model"}, {"first": "step", "last": "step/model"}),
    "out and in again": ({"last": "{outside}/back/model"}, {"last": "model"}),
}


@pytest.mark.parametrize("kind", KEPT_LINKS)
def test_link_inside_a_checkpoint_is_kept_as_a_relative_link(storage: Storage, kind: str, tmp_path: Path) -> None:
    links, kept = KEPT_LINKS[kind]
    storage.save(NAME, writes_links(links, tmp_path))
    with storage.fetch(NAME) as directory:
        found = {str(p.relative_to(directory)): str(p.readlink()) for p in directory.rglob("*") if p.is_symlink()}
        assert found == kept
        (last,) = directory.rglob("last")
        assert (last / "model" if last.is_dir() else last).read_text().startswith("weights")
        copy = tmp_path / "copy"
        copy_contents(directory, copy)
        assert {path: str((copy / path).readlink()) for path in found} == kept
    assert storage.manifest(NAME).size == len("weights" + "weights of a step")


def test_error_about_link_is_not_temporary(tmp_path: Path) -> None:
    (tmp_path / "last").symlink_to("nowhere")
    with pytest.raises(TrainingCodeError, match="cannot be followed") as raised:
        settle_links(tmp_path)
    assert cause_of(raised.value, 3).startswith("TrainingCodeError at ")


def test_link_to_a_file_elsewhere_is_replaced_by_a_copy(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "vocabulary").write_text("words")
    storage.save(NAME, writes_links({"words": "{outside}/vocabulary", "last": "words"}, tmp_path))
    (tmp_path / "vocabulary").unlink()
    with storage.fetch(NAME) as directory:
        assert ((directory / "words").is_symlink(), (directory / "last").is_symlink()) == (False, True)
        assert (directory / "last").read_text() == "words"


@pytest.mark.parametrize(
    ("links", "named"),
    [
        ({"last": "nowhere"}, "'last' to 'nowhere'"),
        ({"last": "model/x"}, "'last' to 'model/x'"),
        ({"last": "{outside}"}, "'last' to '/"),
        ({"a": "b", "b": "a"}, "'a' to 'b'"),
        ({"last": "."}, "'last' to '.'"),
        ({"step/up": "{here}"}, "'step/up' to '/"),
        ({"step/there": "../other", "other/back": "../step"}, "' to '../"),
    ],
)
def test_link_that_cannot_be_kept_is_refused_by_its_name_when_saving(
    storage: Storage, files: Files, tmp_path: Path, links: dict[str, str], named: str
) -> None:
    with pytest.raises(TrainingCodeError, match=re.escape(named)):
        storage.save(NAME, writes_links(links, tmp_path))
    assert [path for path in files.list() if path != "back"] == []


@pytest.mark.parametrize(
    "links",
    [
        {"last": "../step"},
        {"last": "/etc"},
        {"../last": "model"},
        {"last": "gone"},
        {"last": 5},
        {"model": "step"},
        {"link": "step", "link/up": "model"},
        ["last"],
    ],
)
def test_manifest_with_links_that_saving_never_writes_is_refused(
    storage: Storage, files: Files, tmp_path: Path, links: Any
) -> None:
    storage.save(NAME, writes_links({}, tmp_path))
    forged = storage.manifest(NAME)._replace(links=links)
    files.write(f"{NAME}/{MANIFEST}", forged.encode())
    with pytest.raises(CheckpointError), storage.fetch(NAME):
        pass


def test_link_that_was_changed_is_damage(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.save(NAME, writes_links({"last": "model"}, tmp_path))
    (tmp_path / NAME / "last").unlink()
    (tmp_path / NAME / "last").symlink_to("step/model")
    with pytest.raises(CheckpointError, match="the link last to model is missing"), storage.fetch(NAME):
        pass


def test_second_save_of_a_name_replaces_content(storage: Storage) -> None:
    storage.save(NAME, writes(model="old", more="x"))
    storage.save(NAME, writes(model="new"))
    assert contents(storage, NAME) == {"model.pt": b"new"}


@pytest.mark.parametrize("mistake", ["nothing", "a pipe", "our name"])
def test_unsupported_file_is_refused_and_leaves_no_files(storage: Storage, files: Files, mistake: str) -> None:
    def write(directory: Path) -> None:
        match mistake:
            case "a pipe":
                os.mkfifo(directory / "x")
            case "our name":
                (directory / MANIFEST).touch()

    with pytest.raises(TrainingCodeError):
        storage.save(NAME, write)
    assert files.list() == []


def test_error_of_training_code_is_raised_and_leaves_no_files(storage: Storage, files: Files) -> None:
    def write(directory: Path) -> None:
        (directory / "model").write_text("half")
        raise KeyError("weights")

    with pytest.raises(KeyError, match="weights"):
        storage.save(NAME, write)
    assert files.list() == []


def test_absolute_directory_is_verified_only_if_it_has_manifest(storage: Storage, tmp_path: Path) -> None:
    old = tmp_path / "elsewhere" / "trial-1" / "length-2-attempt-1"
    old.mkdir(parents=True)
    (old / "model").write_text("weights")
    with storage.fetch(str(old)) as directory:
        assert directory == old
    other = open_storage(tmp_path / "other")
    other.save(NAME, writes(model="weights"))
    place = Path(other.locate(NAME))
    with storage.fetch(str(place)) as directory:
        assert directory == place
    (place / "model.pt").write_text("weighty")
    with pytest.raises(CheckpointError, match=r"the content of model\.pt has changed"), storage.fetch(str(place)):
        pass
    with pytest.raises(CheckpointError, match="there is no checkpoint /nowhere"), storage.fetch("/nowhere"):
        pass


def test_checkpoint_of_another_storage_is_fetched_by_url(storage: Storage) -> None:
    other = open_storage(f"memory://{uuid.uuid4()}/place")
    other.save(NAME, writes(model="weights"))
    assert contents(storage, other.locate(NAME)) == {"model.pt": b"weights"}
    assert storage.locate(other.locate(NAME)) == other.locate(NAME)


# -- damage ------------------------------------------------------------------------------------


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


DAMAGES: dict[str, tuple[Callable[[Files], object], str]] = {
    "truncated": (lambda f: f.write(f"{NAME}/model.pt", b"wei"), r"model\.pt has 3 bytes instead of 7"),
    "emptied": (lambda f: f.write(f"{NAME}/a/b.pt", b""), r"a/b\.pt has 0 bytes instead of 4"),
    "flipped": (
        lambda f: f.write(f"{NAME}/model.pt", _flipped(f.read(f"{NAME}/model.pt"))),
        r"the content of model\.pt has changed",
    ),
    "missing": (lambda f: f.remove(f"{NAME}/a/b.pt"), r"a/b\.pt is missing"),
    "extra": (lambda f: f.write(f"{NAME}/model-2.pt", b"x"), r"model-2\.pt was not saved with it"),
    "no manifest": (lambda f: f.remove(f"{NAME}/{MANIFEST}"), f"has no {MANIFEST}"),
    "empty manifest": (lambda f: f.write(f"{NAME}/{MANIFEST}", b""), f"its {MANIFEST} cannot be read"),
    "garbage manifest": (lambda f: f.write(f"{NAME}/{MANIFEST}", b"\xff[]{"), f"its {MANIFEST} cannot be read"),
    "half a manifest": (lambda f: f.write(f"{NAME}/{MANIFEST}", b'{"format": 1}'), f"its {MANIFEST} cannot be read"),
    "a manifest that is a list": (lambda f: f.write(f"{NAME}/{MANIFEST}", b"[]"), f"its {MANIFEST} cannot be read"),
    "a manifest that leads outside": (
        lambda f: f.write(
            f"{NAME}/{MANIFEST}",
            f.read(f"{NAME}/{MANIFEST}").replace(b'"a/b.pt"', b'"../b.pt"'),
        ),
        f"its {MANIFEST} cannot be read",
    ),
    "a newer format": (lambda f: f.write(f"{NAME}/{MANIFEST}", b'{"format": 4}'), "newer Ashwood"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_refused_with_damaged_file(storage: Storage, files: Files, damage: str) -> None:
    storage.save(NAME, writes(model="weights", a__b="more"))
    inflict, words = DAMAGES[damage]
    inflict(files)
    with pytest.raises(CheckpointError, match=words) as caught, storage.fetch(NAME):
        pass
    assert storage.locate(NAME) in str(caught.value)
    assert not isinstance(caught.value, StorageUnreachable)


def test_set_aside_moves_checkpoint_out_of_listing(storage: Storage, files: Files) -> None:
    storage.save(NAME, writes(model="weights", a__b="more"))
    place = storage.set_aside(NAME)
    assert place.endswith(f"set-aside/{NAME}")
    assert files.read(f"set-aside/{NAME}/model.pt") == b"weights"
    assert storage.complete() == []
    assert storage.leftovers() == []
    storage.save(NAME, writes(model="another"))
    assert storage.set_aside(NAME).endswith(f"set-aside/{NAME}.1")
    assert files.read(f"set-aside/{NAME}/model.pt") == b"weights"
    assert files.read(f"set-aside/{NAME}.1/model.pt") == b"another"


def test_checkpoint_of_another_experiment_or_draw_is_not_fetched(storage: Storage) -> None:
    storage.save(NAME, writes(model="weights"), lambda: CheckpointInfo({}, "mine", "drawn so"))
    for fits in (
        CheckpointInfo(),
        CheckpointInfo(experiment="mine"),
        CheckpointInfo(experiment="mine", draw="drawn so"),
    ):
        with storage.fetch(NAME, fits):
            pass
    for foreign in (CheckpointInfo(experiment="other"), CheckpointInfo(experiment="mine", draw="drawn otherwise")):
        with pytest.raises(CheckpointError, match="so it is not used"), storage.fetch(NAME, foreign):
            pass
    storage.owner = CheckpointInfo(experiment="other")
    with pytest.raises(CheckpointError, match="so it is not used"), storage.fetch(NAME):
        pass


SAID = CheckpointInfo({"loss": 0.1, "é": math.nan}, "an experiment", "a draw", [(3, {"loss": 0.2})])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_change_of_any_byte_is_detected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("flip")
    storage = open_storage(root)
    storage.save(NAME, writes(model=data.draw(st.binary(min_size=1, max_size=64))), lambda: SAID)
    assert storage.manifest(NAME).metrics["loss"] == 0.1
    file = root / NAME / data.draw(st.sampled_from(["model.pt", MANIFEST]))
    changed = bytearray(file.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(changed)
    with pytest.raises(CheckpointError), storage.fetch(NAME):
        pass


def test_missing_checkpoint_raises(storage: Storage) -> None:
    storage.save(NAME, writes(model="weights"))
    with pytest.raises(CheckpointError, match="there is no checkpoint") as caught:
        contents(storage, "trial-3/length-8-attempt-1")
    assert not isinstance(caught.value, StorageUnreachable)


# -- lists and deletions -------------------------------------------------------------------------


def test_complete_lists_complete_checkpoints_in_order(storage: Storage, files: Files) -> None:
    assert storage.complete() == []
    for name in ("trial-10/length-4-attempt-1", "trial-9/length-16-attempt-2", "trial-9/length-4-attempt-1-batches-7"):
        storage.save(name, writes(model="weights", more="12"))
    files.write("trial-9/length-64-attempt-2/model.pt", b"an upload that was cut short")
    files.write("trial-9/notes.txt", b"somebody's")
    files.write("elsewhere/x", b"somebody's")
    assert storage.complete() == [
        Stored("trial-9/length-4-attempt-1-batches-7", 9, 4, 1, 9),
        Stored("trial-9/length-16-attempt-2", 9, 16, 2, 9),
        Stored("trial-10/length-4-attempt-1", 10, 4, 1, 9),
    ]
    assert storage.complete(10) == [Stored("trial-10/length-4-attempt-1", 10, 4, 1, 9)]
    assert storage.complete(1) == []
    assert [tuple(leftover) for leftover in storage.leftovers()] == [("trial-9/length-64-attempt-2", 28)]


def test_delete_removes_a_checkpoint_and_may_be_repeated(storage: Storage, files: Files) -> None:
    other = "trial-3/length-8-attempt-1"
    storage.save(NAME, writes(model="weights", a__b="more"))
    storage.save(other, writes(model="weights"))
    storage.delete(NAME)
    storage.delete(NAME)
    assert [stored.name for stored in storage.complete()] == [other]
    storage.delete(other)
    assert files.list() == []


@pytest.mark.parametrize(
    "name", ["", "trial-3", "../trial-3/length-4-attempt-1", "trial-3/../..", "/etc/passwd", "x/y"]
)
def test_delete_removes_only_checkpoints_of_its_storage(storage: Storage, files: Files, name: str) -> None:
    storage.save(NAME, writes(model="weights"))
    before = files.list()
    with pytest.raises(CheckpointError, match="is not deleted"):
        storage.delete(name)
    assert files.list() == before


def test_leftovers_can_be_deleted(storage: Storage, files: Files) -> None:
    files.write("trial-9/length-64-attempt-2/model.pt", b"cut short")
    for leftover in storage.leftovers():
        storage.delete(leftover.name)
    assert files.list() == []


def test_probe_leaves_no_files(storage: Storage, files: Files) -> None:
    storage.probe()
    assert files.list() == []


# -- names ------------------------------------------------------------------------------------------

counts = st.integers(0, 10**6)


@given(
    counts, counts, counts, st.none() | st.tuples(st.sampled_from(["epochs", "batches", "records", "steps"]), counts)
)
def test_checkpoint_name_contains_trial_length_and_attempt(
    trial: int, length: int, attempt: int, position: tuple[str, int] | None
) -> None:
    name = checkpoint_name(trial, length, attempt, position)
    assert parsed(name) == Name(trial, length, attempt)
    for unit in ("epochs", "batches", "records", "steps"):
        assert named_position(name, unit) == (position[1] if position and position[0] == unit else None)


@pytest.mark.parametrize(
    ("url", "joined"),
    [
        ("/a", "/a/x"),
        ("/a?b", "/a?b/x"),
        ("s3://b/p/", "s3://b/p/x"),
        ("s3://b?endpoint_url=http://h:1/", "s3://b/x?endpoint_url=http://h:1/"),
    ],
)
def test_join_url(url: str, joined: str) -> None:
    assert join_url(url, "x") == joined


def test_error_names_missing_package() -> None:
    for name, extra in {"gs://b/p": r"ashwood\[gcs\]", "abfs://c/p": r"ashwood\[azure\]"}.items():
        with pytest.raises(StorageUnreachable, match=extra):
            open_storage(name).probe()
    with pytest.raises(StorageUnreachable, match="cannot use nonsense://"):
        open_storage("nonsense://x").probe()
