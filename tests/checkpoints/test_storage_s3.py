"""Checkpoints on a real S3 server, through real worker processes."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ashwood.backends.local.backend import LocalBackend
from ashwood.checkpoints import MANIFEST, ONCE, open_storage
from ashwood.errors import StorageUnreachable
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointDamaged,
    CheckpointSaved,
    ValidationReported,
)
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.testing.backend import drive, job, toy_spec
from tests.checkpoints.storages import NAME, Files, contents, writes
from tests.s3 import S3

MODULE = "ashwood.testing.training"
Make = Callable[[str], LocalBackend]


@pytest.fixture
def place(s3: S3) -> str:
    return s3.new_place()


@pytest.fixture
def make(tmp_path: Path, place: str, s3: S3) -> Iterator[Make]:
    """Makes a backend whose attempts run inline, forked or as a command."""
    made: list[LocalBackend] = []

    def make(how: str) -> LocalBackend:
        command = Entrypoint(EntrypointKind.COMMAND, f"{sys.executable} -m {MODULE}")
        entrypoint = command if how == "command" else Entrypoint(EntrypointKind.FUNCTION, f"{MODULE}:train")
        backend = LocalBackend(
            toy_spec(tmp_path, entrypoint=entrypoint),
            checkpoints=place,
            logs=tmp_path / "logs",
            workers=1,
            process_per_attempt=how == "forked",
        )
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


@pytest.mark.parametrize(
    "how",
    ["inline", pytest.param("forked", marks=pytest.mark.slow), pytest.param("command", marks=pytest.mark.slow)],
)
def test_trial_resumes_from_checkpoint_unless_it_is_damaged(make: Make, place: str, how: str) -> None:
    backend = make(how)
    events = drive(backend, [job(target=2)])
    saved = events[-2]
    assert saved == CheckpointSaved(0, 1, 2, "trial-0/length-2-attempt-1", {"loss": 0.5}, 1)
    again = job(target=3, attempt=2, length=2, checkpoint="trial-0/length-2-attempt-1")
    events = drive(backend, [again])
    assert isinstance(events[0], AttemptStarted)
    assert [event.length for event in events if isinstance(event, ValidationReported)] == [3]

    Files(place).write("trial-0/length-3-attempt-2/length", b"4")
    damaged = "trial-0/length-3-attempt-2"
    [event] = drive(backend, [job(target=4, attempt=3, length=3, checkpoint=damaged)])
    assert isinstance(event, CheckpointDamaged)
    assert (event.trial, event.attempt, event.path) == (0, 3, damaged)
    assert event.why == f"the checkpoint {place}/{damaged} is damaged: the content of length has changed"


def test_upload_is_retried_during_outage(make: Make, place: str, s3: S3) -> None:
    failures: Counter[str] = Counter()

    def spoil(method: str, path: str) -> bool:
        failures[path] += method == "PUT"
        return method == "PUT" and failures[path] <= 2

    s3.spoil = spoil
    assert drive(make("inline"), [job(target=1)])[-1] == AttemptEnded(0, 1, 1)
    assert max(failures.values()) == 3
    assert [stored.name for stored in open_storage(place).complete()] == ["trial-0/length-1-attempt-1"]


def test_upload_of_killed_process_is_never_complete(make: Make, place: str, s3: S3, tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def spoil(method: str, path: str) -> bool:
        if method == "PUT" and path.endswith(MANIFEST):
            os.kill(int(told.read_text()), signal.SIGKILL)
            return True
        return False

    s3.spoil = spoil
    backend = make("inline")
    events = drive(backend, [job(target=1, hparams={"do": "tell", "pid_file": str(told)})])
    assert isinstance(events[-1], AttemptFailed)
    assert not any(isinstance(event, CheckpointSaved) for event in events)
    storage = open_storage(place)
    assert storage.complete() == []
    assert [leftover.name for leftover in storage.leftovers()] == ["trial-0/length-1-attempt-1"]
    s3.spoil = lambda _method, _path: False
    assert drive(backend, [job(target=1, attempt=2)])[-1] == AttemptEnded(0, 2, 1)


def test_silent_server_causes_no_damage(place: str, s3: S3) -> None:
    storage = open_storage(place, ONCE)
    storage.save(NAME, writes(model="weights"))
    s3.spoil = lambda method, _path: method == "GET"
    with pytest.raises(StorageUnreachable, match="reduce your request rate"):
        contents(storage, NAME)
    s3.spoil = lambda _method, _path: False
    assert contents(storage, NAME) == {"model.pt": b"weights"}


def test_missing_bucket_is_reported(s3: S3) -> None:
    for storage in (open_storage(url, ONCE) for url in ("s3://nowhere/x", "s3://nowhere")):
        for action in (storage.probe, storage.complete, lambda: contents(storage, NAME)):  # noqa: B023
            with pytest.raises(StorageUnreachable, match="bucket does not exist; create it"):
                action()


def test_credentials_are_read_again_after_a_failure(
    s3: S3, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"

    def write_credentials(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")

    def refuse_the_expired(_method: str, _path: str) -> str | bool:
        if s3.keys[-1] != "expired":
            return False
        if s3.keys.count("expired") == 3:
            write_credentials("renewed")
        return "403"

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write_credentials("expired")
    s3.keys.clear()
    s3.spoil = refuse_the_expired
    storage = open_storage(place)
    storage.save(NAME, writes(model="weights"))
    assert contents(storage, NAME) == {"model.pt": b"weights"}
    assert set(s3.keys[3:]) == {"renewed"}


def test_call_to_silent_server_ends_after_patience(s3: S3, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.read_timeout", 0.2)
    s3.spoil = lambda _method, _path: "silence"
    with pytest.raises(StorageUnreachable, match="Read timeout on endpoint"):
        open_storage(place, ONCE).complete()
    s3.spoil = lambda _method, _path: False
    assert open_storage(place).complete() == []


def test_abort_uploads_aborts_only_own_multipart_uploads(s3: S3, place: str) -> None:
    import boto3

    client, prefix = boto3.client("s3"), place.removeprefix("s3://bucket/")
    for key in (f"{prefix}/{NAME}/model.pt", f"{prefix}-of-another/x", "elsewhere"):
        client.create_multipart_upload(Bucket="bucket", Key=key)
    storage = open_storage(place)
    assert storage.abort_uploads() == 1
    assert storage.abort_uploads() == 0
    keys = [upload["Key"] for upload in client.list_multipart_uploads(Bucket="bucket")["Uploads"]]
    assert sorted(keys) == sorted([f"{prefix}-of-another/x", "elsewhere"])


def test_large_file_is_uploaded_and_downloaded_in_parts(s3: S3, place: str, tmp_path: Path) -> None:
    parts = list[str]()

    def count(method: str, path: str) -> bool:
        parts.append(f"{method} {path.rpartition('/')[2]}")
        return False

    s3.spoil = count
    data = os.urandom(40 << 20)
    storage = open_storage(place)
    storage.save(NAME, writes(model=data))
    assert parts.count("PUT model.pt") == 3
    assert contents(storage, NAME) == {"model.pt": data}
    assert parts.count("GET model.pt") >= 3


def test_endpoint_in_url_overrides_environment(s3: S3, place: str) -> None:
    there = f"{place}?endpoint_url={os.environ['AWS_ENDPOINT_URL']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        storage = open_storage(there)
        storage.save(NAME, writes(model="weights"))
        assert storage.locate(NAME) == f"{place}/{NAME}"
    assert contents(open_storage(place), NAME) == {"model.pt": b"weights"}
