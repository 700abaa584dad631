"""Export and import of whole experiments: an import restores the original, and refuses damaged files."""

from __future__ import annotations

import errno
import json
import math
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ashwood.checkpoints import MANIFEST, CheckpointInfo
from ashwood.engine import Home, open_home
from ashwood.engine.bundle import export_bundle, import_bundle
from ashwood.errors import EventLogError, NotFound, RequestRefused
from ashwood.eventlog.fold_cache import fold
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CheckpointSaved, DriverStarted, Event, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Double, Space

SPEC = ExperimentSpec(
    name="toy",
    space=Space({"x": Double(0.0, 1.0)}),
    search=SearchSettings(method=Method.RANDOM, max_length=9, max_trials=3, divisor=Fraction(4)),
    metric="loss",
    unit=Unit.EPOCHS,
    entrypoint=Entrypoint(EntrypointKind.FUNCTION, "train:train"),
    workdir="/somewhere",
    seed=5,
    config_text="name: toy # é\n",
    checkpoint_storage=None,
)
NAME = "trial-0/length-3-attempt-1"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home", create=True) as opened:
        yield opened


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "elsewhere", create=True) as opened:
        opened.store.create(SPEC, at=1.0)
        yield opened


def record(home: Home, spec: ExperimentSpec = SPEC) -> int:
    """Return an experiment whose driver was killed after a trial reported and saved a checkpoint."""
    experiment = home.store.create(spec, at=100.5)
    state = Experiment(spec)
    events: list[Event] = [
        DriverStarted(1),
        ValidationReported(0, 1, 3, {"loss": math.nan, "accuracy": 0.1 + 0.2}),
        CheckpointSaved(0, 1, 3, NAME),
    ]
    entries = [Entry(100.1 + i / 3, event, state.handle(event)) for i, event in enumerate(events)]
    home.store.log(experiment).append(entries, summary={"fraction": 0.25})
    home.store.annotate(experiment, name="renamed", labels=["good", "vision"])
    home.store.set_note(experiment, None, "# Why\né")
    home.store.set_note(experiment, 0, "odd")
    storage = home.storage(experiment, spec)
    storage.save(NAME, write_checkpoint)
    storage.save("trial-0/length-6-attempt-1", write_checkpoint)  # which no entry knows of
    home.logs(experiment).mkdir()
    (home.logs(experiment) / "trial-0.log").write_text("epoch 0\n")
    return experiment


def write_checkpoint(directory: Path) -> None:
    (directory / "deep").mkdir()
    (directory / "deep" / "model.bin").write_bytes(bytes(range(256)) * 10)
    (directory / "empty").write_bytes(b"")


def read(home: Home, experiment: int) -> list[str]:
    # Text, since NaN differs from itself.
    return [repr(row) for row in home.store.log(experiment).read()]


def test_import_restores_exported_experiment(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    experiment = record(home)
    out = tmp_path / "toy.ashwood"
    assert export_bundle(home, experiment, out, checkpoints=True, logs=True) == (3, 1, 1, (), 0)
    imported = import_bundle(elsewhere, out)
    spec = replace(SPEC, identity=imported.spec.identity, provenance={"imported": 3})
    assert imported == (2, spec, 3, 1)
    assert read(elsewhere, 2) == read(home, experiment)
    assert elsewhere.store.spec(2) == spec
    head = elsewhere.log(2).check()
    assert head is not None
    assert head.seq == 3
    assert elsewhere.store.record(2) == home.store.record(experiment)._replace(id=2)
    assert elsewhere.store.notes(2) == {None: "# Why\né", 0: "odd"}
    assert elsewhere.is_interrupted(elsewhere.store.record(2))
    storage = elsewhere.storage(2, SPEC)
    assert [stored.name for stored in storage.complete()] == [NAME]
    with storage.fetch(NAME) as checkpoint:
        assert (checkpoint / "deep" / "model.bin").read_bytes() == bytes(range(256)) * 10
        assert (checkpoint / "empty").read_bytes() == b""
    assert (elsewhere.logs(2) / "trial-0.log").read_text() == "epoch 0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "home", "toy.ashwood"]


def test_trial_directories_are_exported_without_links(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    experiment, out = record(home), tmp_path / "toy.ashwood"
    directory = home.trial_directories(experiment) / "0-0123abcd"
    (directory / "deep" / "empty").mkdir(parents=True)
    (directory / "deep" / "notes").write_text("mine")
    (directory / MANIFEST).write_text("a file of the user")
    (tmp_path / "secret").write_text("secret")
    (directory / "deep" / "link").symlink_to(tmp_path / "secret")
    (directory / "home").symlink_to(tmp_path)
    os.mkfifo(directory / "pipe")
    (directory / "a:b").touch()
    (directory.parent / "notes").mkdir()
    (directory.parent / "notes" / "x").touch()
    (directory.parent / "1-0123abcd").symlink_to(tmp_path)
    exported = export_bundle(home, experiment, out, directories=True)
    assert exported.directories == 1
    [left_out] = exported.left_out
    assert "4 of the files in" in left_out
    with zipfile.ZipFile(out) as archive:
        assert json.loads(archive.read("manifest.json"))["format"] == 2
        assert b"secret" not in b"".join(map(archive.read, archive.namelist()))
    import_bundle(elsewhere, out)
    top = elsewhere.trial_directories(2)
    assert {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()} == {
        "0-0123abcd/deep/notes",
        f"0-0123abcd/{MANIFEST}",
    }
    assert (top / "0-0123abcd" / "deep" / "notes").read_text() == "mine"
    export_bundle(home, experiment, out)
    with zipfile.ZipFile(out) as archive:
        assert json.loads(archive.read("manifest.json"))["format"] == 1, "older versions can import it"
        assert not [name for name in archive.namelist() if name.startswith("trials/")]


def test_export_leaves_out_damaged_and_deleted_checkpoints(home: Home, tmp_path: Path) -> None:
    experiment = record(home)
    out = tmp_path / "toy.ashwood"
    place = Path(home.checkpoints(experiment, SPEC)) / NAME
    (place / "empty").write_bytes(b"not empty")
    assert export_bundle(home, experiment, out, checkpoints=True).checkpoints == 0
    home.storage(experiment, SPEC).delete(NAME)
    assert export_bundle(home, experiment, out, checkpoints=True).checkpoints == 0


def test_export_names_damaged_checkpoint(home: Home, tmp_path: Path) -> None:
    experiment = record(home)
    (home.directory(experiment) / "checkpoints" / NAME / "empty").write_bytes(b"no more")
    exported = export_bundle(home, experiment, tmp_path / "toy.ashwood", checkpoints=True)
    assert exported.checkpoints == 0
    assert [NAME in why for why in exported.left_out] == [True]


def test_export_until_entry_has_only_earlier_entries(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    experiment = record(home)
    out = tmp_path / "toy.ashwood"
    assert export_bundle(home, experiment, out, until=2) == (2, 0, 0, (), 0)
    import_bundle(elsewhere, out)
    assert read(elsewhere, 2) == read(home, experiment)[:2]
    assert elsewhere.store.record(2).state is ExperimentState.RUNNING
    assert elsewhere.store.record(2).summary == {}


def test_experiment_that_never_ran_is_exported_and_imported(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    experiment = home.store.create(SPEC, at=1.0)
    export_bundle(home, experiment, tmp_path / "toy.ashwood", checkpoints=True, logs=True)
    import_bundle(elsewhere, tmp_path / "toy.ashwood")
    assert elsewhere.store.record(2).state is ExperimentState.CREATED


def test_import_replaces_paths_of_other_machine(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    out = tmp_path / "toy.ashwood"
    theirs = "s3://bucket/x/toy-19700101-000001-0a1b2c"
    for storage, kept in (("/mnt/there", None), (theirs, "s3://bucket/x/toy-19700101-000001-")):
        export_bundle(home, home.store.create(replace(SPEC, checkpoint_storage=storage), at=1.0), out)
        imported = import_bundle(elsewhere, out, workdir=tmp_path)
        place = imported.spec.checkpoint_storage
        assert place is None if kept is None else str(place).startswith(kept) and place != theirs
        assert imported.spec.workdir == str(tmp_path)
        assert elsewhere.store.spec(imported.experiment) == imported.spec


def test_imported_trials_resume_from_original_checkpoints_at_url(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    original = "s3://bucket/x/toy-20260101-000000-abcdef"
    spec = replace(SPEC, checkpoint_storage=original)
    experiment = home.store.create(spec, at=1.0)
    home.store.log(experiment).append([entry for _, entry in home.store.log(record(home)).read()])
    export_bundle(home, experiment, tmp_path / "toy.ashwood")
    imported = import_bundle(elsewhere, tmp_path / "toy.ashwood")
    events = [entry.event for _, entry in elsewhere.store.log(imported.experiment).read()]
    saved = [event.path for event in events if isinstance(event, CheckpointSaved)]
    assert saved
    assert all(path.startswith(f"{original}/trial-") for path in saved)
    fold(imported.spec, elsewhere.store.log(imported.experiment))


def test_export_omits_script_arguments(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    experiment = record(home, replace(SPEC, arguments=("tune.py", "--token", "secret")))
    export_bundle(home, experiment, tmp_path / "toy.ashwood")
    assert b"secret" not in zipfile.ZipFile(tmp_path / "toy.ashwood").read("spec.json")
    assert import_bundle(elsewhere, tmp_path / "toy.ashwood").spec.arguments == ()


def test_export_leaves_out_log_that_is_not_a_regular_file(home: Home, tmp_path: Path) -> None:
    experiment = record(home)
    (tmp_path / "secret").write_text("secret")
    (home.logs(experiment) / "trial-1.log").symlink_to(tmp_path / "secret")
    os.mkfifo(home.logs(experiment) / "trial-2.log")
    exported = export_bundle(home, experiment, tmp_path / "toy.ashwood", logs=True)
    assert exported.logs == 1
    assert ["not a regular file" in why for why in exported.left_out] == [True, True]


def test_failed_export_leaves_no_file(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "toy.ashwood"
    out.write_text("precious")
    with pytest.raises(NotFound):
        export_bundle(home, 99, out)
    experiment = record(home)
    with pytest.raises(EventLogError, match=r"cannot write .*nowhere"):
        export_bundle(home, experiment, tmp_path / "nowhere" / "toy.ashwood")

    def fill_the_disk(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ashwood.engine.bundle._pack_logs", fill_the_disk)
    with pytest.raises(EventLogError, match=r"cannot write .*No space left"):
        export_bundle(home, experiment, out, logs=True)
    assert out.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "toy.ashwood"]


# -- what is refused ----------------------------------------------------------------------------


@pytest.fixture
def packed(home: Home, tmp_path: Path) -> Path:
    out = tmp_path / "toy.ashwood"
    export_bundle(home, record(home), out, checkpoints=True, logs=True)
    return out


def refused(elsewhere: Home, path: Path) -> str:
    """Return the error of an import, and check that it left no files."""
    with pytest.raises(EventLogError) as raised:
        import_bundle(elsewhere, path)
    assert [record.id for record in elsewhere.store.experiments()] == [1]
    assert [p.name for p in elsewhere.path.glob("experiments/*") if p.name != "1"] == []
    assert "Nothing was imported" in str(raised.value) or "no such file" in str(raised.value)
    return str(raised.value)


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], *, honest: bool = False) -> None:
    """Change members; with ``honest``, update their sizes and digests in the manifest."""
    from ashwood.engine.bundle import _digest

    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    change(members)
    if honest:
        manifest = json.loads(members["manifest.json"])
        manifest["members"] = {}
        for name, content in members.items():
            digest = _digest()
            digest.update(content)
            manifest["members"][name] = {"size": len(content), "digest": digest.hexdigest()}
        del manifest["members"]["manifest.json"]
        members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_truncated_file_is_refused(packed: Path, elsewhere: Home) -> None:
    whole = packed.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        packed.write_bytes(whole[:size])
        assert "truncated, damaged, or not a file of 'ashwood export'" in refused(elsewhere, packed)


def test_file_with_flipped_byte_is_refused(packed: Path, elsewhere: Home) -> None:
    whole = packed.read_bytes()
    good = read(elsewhere, import_bundle(elsewhere, packed).experiment)
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        packed.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        before = len(elsewhere.store.experiments())
        try:
            imported = import_bundle(elsewhere, packed)
        except EventLogError:
            assert len(elsewhere.store.experiments()) == before
        else:  # a byte of zip's own that means nothing, such as a time
            assert read(elsewhere, imported.experiment) == good


def test_foreign_and_newer_files_are_refused(packed: Path, elsewhere: Home, tmp_path: Path) -> None:
    assert "there is no such file" in refused(elsewhere, tmp_path / "nowhere.ashwood")
    assert "cannot import" in refused(elsewhere, tmp_path)
    text = tmp_path / "text.ashwood"
    text.write_text("name: toy\n")
    assert "not a file of 'ashwood export'" in refused(elsewhere, text)
    foreign = tmp_path / "foreign.ashwood"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    assert "has no manifest.json" in refused(elsewhere, foreign)

    def newer(key: str) -> Callable[[dict[str, bytes]], None]:
        def change(members: dict[str, bytes]) -> None:
            manifest = json.loads(members["manifest.json"])
            members["manifest.json"] = json.dumps({**manifest, key: 99, "ashwood": "9.0"}).encode()

        return change

    for key in ("format", "codec"):
        rewrite(packed, newer(key))
        assert "written by Ashwood 9.0, which is newer than" in refused(elsewhere, packed)


CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], Any], bool, str]] = {
    "changed": (lambda m: m.update({"spec.json": m["spec.json"].replace(b"toy", b"boy")}), False, "has changed"),
    "longer": (lambda m: m.update({"entries.jsonl": m["entries.jsonl"] * 2}), False, "bytes instead of"),
    "doubled": (lambda m: m.update({"entries.jsonl": m["entries.jsonl"] * 2}), True, "6 entries instead of 3"),
    "missing": (lambda m: m.pop("entries.jsonl"), False, "not those that its manifest lists"),
    "extra": (lambda m: m.update({"logs/trial-9.log": b""}), False, "not those that its manifest lists"),
    "no log": (lambda m: m.pop("entries.jsonl"), True, "lists no event log"),
    "no manifest": (lambda m: m.update({"manifest.json": b"{"}), False, "is damaged"),
    "no entry": (lambda m: m.update({"entries.jsonl": b"{}\n"}), True, "line 1 of entries.jsonl is not an entry"),
    "no spec": (lambda m: m.update({"spec.json": b"{}"}), True, "is damaged"),
    "up": (lambda m: m.update({"logs/../../../evil": b""}), True, "which 'ashwood export' never writes"),
    "absolute": (lambda m: m.update({"/tmp/evil": b""}), True, "which 'ashwood export' never writes"),
    "elsewhere": (lambda m: m.update({"driver.lock": b""}), True, "which 'ashwood export' never writes"),
    "windows": (lambda m: m.update({"logs/..\\evil": b""}), True, "which 'ashwood export' never writes"),
    "trial": (lambda m: m.update({"trials/0-0123abcd/../../evil": b""}), True, "which 'ashwood export' never writes"),
    "no trial": (lambda m: m.update({"trials/../x": b""}), True, "which 'ashwood export' never writes"),
    "trial file": (lambda m: m.update({"trials/0-0123abcd": b""}), True, "which 'ashwood export' never writes"),
    "clash": (lambda m: m.update({"trials/0-0123abcd/x": b"", "trials/0-0123abcd/x/y": b""}), True, "cannot import"),
    "folder": (lambda m: m.update({"logs/": b""}), True, "which 'ashwood export' never writes"),
}


@pytest.mark.parametrize(("change", "honest", "why"), CHANGES.values(), ids=CHANGES)
def test_altered_file_is_refused(
    packed: Path, elsewhere: Home, change: Callable[[dict[str, bytes]], None], honest: bool, why: str
) -> None:
    rewrite(packed, change, honest=honest)
    assert why in refused(elsewhere, packed)


def test_export_and_import_of_long_log_take_little_memory(home: Home, elsewhere: Home, tmp_path: Path) -> None:
    experiment = home.store.create(SPEC, at=1.0)
    log = home.store.log(experiment)
    log.append([Entry(1.0, ValidationReported(0, 1, n, {"loss": n / 7}), ()) for n in range(8_000)])

    def peak_of(work: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def both_ways() -> None:
        export_bundle(home, experiment, tmp_path / "toy.ashwood")
        import_bundle(elsewhere, tmp_path / "toy.ashwood")

    all_at_once = peak_of(lambda: list(log.read()))
    assert peak_of(both_ways) < all_at_once
    assert sum(1 for _ in elsewhere.store.log(2).read()) == 8_000


# -- files made by strangers -------------------------------------------------------------------------


def lie(about: str, value: object) -> Callable[[dict[str, bytes]], None]:
    """Change a value of the manifest, such as ``experiment.summary``."""

    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        *path, key = about.split(".")
        place = manifest
        for part in path:
            place = place[part]
        place[key] = value
        members["manifest.json"] = json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    ("about", "value"),
    [
        ("experiment.summary", "text"),
        ("experiment.summary", None),
        ("experiment.created_at", 1e300),
        ("experiment.created_at", math.nan),
        ("experiment.created_at", -1.0),
        ("experiment.created_at", "today"),
        ("experiment.name", 5),
        ("experiment.labels", "text"),
        ("experiment.labels", [1]),
        ("experiment.archived", "no"),
        ("experiment.notes", {}),
        ("experiment.notes", [["0", "text"]]),
        ("experiment.notes", [[0, None]]),
        ("experiment.notes", [[0]]),
        ("experiment.notes", [[0, "x" * 65_537]]),
        ("experiment", []),
        ("entries", "3"),
        ("entries", 1e400),
        ("members", []),
        ("format", "1"),
        ("codec", None),
        ("checkpoints", [1]),
    ],
)
def test_manifest_with_wrong_type_is_refused(packed: Path, elsewhere: Home, about: str, value: object) -> None:
    rewrite(packed, lie(about, value))
    refused(elsewhere, packed)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 5),
        ("seed", "5"),
        ("workdir", None),
        ("labels", [1]),
        ("checkpoint_storage", 7),
        ("environment", {"A": 1}),
        ("identity", []),
        ("provenance", "text"),
        ("search", {"max_trials": 1.5}),
        ("space", {"x": {"type": "double", "minval": "0", "maxval": 1.0, "count": None}}),
    ],
)
def test_spec_with_wrong_type_is_refused(packed: Path, elsewhere: Home, key: str, value: Any) -> None:
    def change(members: dict[str, bytes]) -> None:
        spec = json.loads(members["spec.json"])
        spec[key] = spec[key] | value if key == "search" else value
        members["spec.json"] = json.dumps(spec).encode()

    rewrite(packed, change, honest=True)
    assert "is damaged" in refused(elsewhere, packed)


def test_file_with_other_compression_is_refused(packed: Path, elsewhere: Home) -> None:
    with zipfile.ZipFile(packed) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "compressed with a method that 'ashwood export' does not use" in refused(elsewhere, packed)


def test_failed_import_removes_only_its_own_files(packed: Path, elsewhere: Home, tmp_path: Path) -> None:
    used = elsewhere.path / "code" / "abc"
    used.mkdir(parents=True)
    for workdir in (elsewhere.path / "code" / ".." / "x", used):

        def change(members: dict[str, bytes], workdir: Path = workdir) -> None:
            members["spec.json"] = json.dumps({**json.loads(members["spec.json"]), "workdir": str(workdir)}).encode()
            members["entries.jsonl"] *= 2  # so that the import fails when it has written everything

        evil = tmp_path / "evil.ashwood"
        evil.write_bytes(packed.read_bytes())
        rewrite(evil, change, honest=True)
        refused(elsewhere, evil)
        assert used.is_dir()
        assert (elsewhere.path / "ashwood.db").exists()


def test_killed_import_cannot_be_used(
    packed: Path, elsewhere: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("ashwood.engine.bundle._append", die)
    monkeypatch.setattr("ashwood.engine.bundle.remove_directory", die)  # A killed process does not tidy up.
    with pytest.raises(Killed):
        import_bundle(elsewhere, packed)
    with pytest.raises(RequestRefused, match="was not imported completely: its event log has 0 of 3 entries"):
        elsewhere.check_imported(2)
    with pytest.raises(RequestRefused, match="ashwood delete 2"):
        export_bundle(elsewhere, 2, tmp_path / "again.ashwood")


def test_second_import_gets_its_own_identity(elsewhere: Home, home: Home, tmp_path: Path) -> None:
    experiment = home.create(SPEC, at=1.0)
    spec = home.store.spec(experiment)
    storage = home.storage(experiment, spec)
    entries = [entry for _, entry in home.store.log(record(home)).read()]
    home.store.log(experiment).append(entries)
    storage.save(NAME, write_checkpoint, lambda: CheckpointInfo(experiment=spec.identity))
    out = tmp_path / "toy.ashwood"
    export_bundle(home, experiment, out, checkpoints=True)
    first, second = import_bundle(elsewhere, out), import_bundle(elsewhere, out)
    assert first.spec.identity == spec.identity
    assert second.spec.identity not in ("", spec.identity)
    for imported in (first, second):
        owner = CheckpointInfo(experiment=imported.spec.identity)
        with elsewhere.storage(imported.experiment, imported.spec).fetch(NAME, owner) as directory:
            assert (directory / "empty").exists()


def test_export_leaves_out_checkpoint_of_other_experiment(home: Home, tmp_path: Path) -> None:
    experiment = home.create(SPEC, at=1.0)
    home.store.log(experiment).append([entry for _, entry in home.store.log(record(home)).read()])
    storage = home.storage(experiment, home.store.spec(experiment))
    storage.save(NAME, write_checkpoint, lambda: CheckpointInfo(experiment="another"))
    exported = export_bundle(home, experiment, tmp_path / "toy.ashwood", checkpoints=True)
    assert exported.checkpoints == 0
    assert "belongs to the experiment with identity another" in exported.left_out[0]


def test_links_and_folders_of_a_checkpoint_are_exported_and_imported(
    home: Home, elsewhere: Home, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_text("heavy")

    def write(directory: Path) -> None:
        (directory / "weights").symlink_to(tmp_path / "weights")
        (directory / "step" / "empty").mkdir(parents=True)
        (directory / "last").symlink_to(directory / "step")
        (directory / "step" / "weights").symlink_to("../weights")

    experiment = home.create(SPEC, at=1.0)
    home.store.log(experiment).append([entry for _, entry in home.store.log(record(home)).read()])
    home.storage(experiment, SPEC).save(NAME, write)
    out = tmp_path / "toy.ashwood"
    assert export_bundle(home, experiment, out, checkpoints=True).checkpoints == 1
    (tmp_path / "weights").unlink()
    imported = import_bundle(elsewhere, out)
    with elsewhere.storage(imported.experiment, imported.spec).fetch(NAME) as directory:
        assert (directory / "last" / "weights").read_text() == "heavy"
        assert (directory / "last").readlink() == Path("step")
        assert (directory / "step" / "empty").is_dir()
