"""Checkpoints from the command line, in a directory and on an S3 server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashwood.checkpoints import MANIFEST, open_storage
from ashwood.engine import open_home
from tests.cli.conftest import EXPERIMENT, GATED, RANDOM, TRAIN, Workplace, go
from tests.s3 import S3, serve_s3

SMALL = EXPERIMENT.replace("max_trials: 24", "max_trials: 6").replace("epochs: 16", "epochs: 4")


@pytest.fixture
def finished(workplace: Workplace) -> Workplace:
    workplace.write(SMALL)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    return workplace


def test_checkpoints_shows_path_and_reason(finished: Workplace) -> None:
    rows = finished.json("checkpoints", "1")
    assert {row["trial"] for row in rows} == set(range(6))
    assert all((Path(row["place"]) / "state.json").is_file() for row in rows)
    assert all(row["size"] > 0 and row["kept_as"] and row["metric"] is not None for row in rows)
    text = finished.ashwood("checkpoints", "1")
    assert "kept as" in text
    assert rows[0]["place"] in text
    [best] = finished.json("best", "1")
    assert best["checkpoint"] in {row["place"] for row in rows}
    finished.ashwood("export", "1", "--out", "trials.json")
    exported = json.loads((finished.path / "trials.json").read_text())
    assert all(Path(row["checkpoint"]).is_dir() for row in exported)


LIMITED = EXPERIMENT.replace("max_trials: 24, divisor: 4", "max_trials: 16, divisor: 2, max_rungs: 3") + (
    "checkpoint_storage: {max_size: 40}\n"
)
"""The checkpoint of a trial has 13 or 14 bytes, so three of them fit."""


def test_max_size_limits_checkpoints_and_promoted_trials_train_again(workplace: Workplace) -> None:
    workplace.write(LIMITED)
    workplace.ashwood("run", "toy.yaml", "--workers", "1")
    rows = workplace.json("checkpoints", "1")
    assert 0 < sum(row["size"] for row in rows) <= 40
    stored = (workplace.path / ".ashwood").glob("experiments/1/checkpoints/trial-*/length-*")
    assert {str(path) for path in stored} == {row["place"] for row in rows}
    assert "of at most 40 B (max_size)" in workplace.ashwood("checkpoints", "1")
    shown = workplace.json("describe", "1")
    assert shown["state"] == "completed"
    assert shown["checkpoints"]["size"] == sum(row["size"] for row in rows)
    # The training code checks that it continues from its checkpoint, or from 0 if there is none.
    assert shown["checkpoints"]["repeated"] == shown["length_repeated"] > 0
    assert "repeated, because checkpoints were deleted to keep max_size" in workplace.ashwood("describe", "1")
    [best] = workplace.json("best", "1")
    assert Path(best["checkpoint"]).is_dir()
    events = workplace.ashwood("events", "1")
    assert "(checkpoints exceed max_size (40 B) by " in events
    assert "because of max_size" in events
    assert "no problem" in workplace.ashwood("verify", "1")
    assert "every decision matches the event log" in workplace.ashwood("replay", "1")


@pytest.mark.slow
def test_search_with_max_size_has_the_results_of_one_without(workplace: Workplace) -> None:
    results: list[list[tuple[object, ...]]] = []
    for text in (LIMITED, LIMITED.replace("{max_size: 40}", "{save_trial_best: 1}")):
        workplace.write(text)
        workplace.ashwood("run", "toy.yaml", "--workers", "1")
        trials = workplace.json("trials", str(len(results) + 1))
        results.append([(trial["trial"], trial["state"], trial["length"], trial["best.loss"]) for trial in trials])
    assert results[0] == results[1]


def test_max_size_can_be_set_while_experiment_runs(workplace: Workplace) -> None:
    workplace.write(LIMITED.replace("max_size: 40", "save_trial_latest: 1"), GATED)
    with workplace.driving("run", "toy.yaml", "--workers", "1") as driver:
        workplace.ashwood("set", "1", "max_size=20 B")
        assert "max_size=20" in workplace.ashwood("events", "1")
        assert workplace.json("describe", "1")["checkpoints"]["max_size"] == 20
        go(workplace)
        driver.communicate()
    assert sum(row["size"] for row in workplace.json("checkpoints", "1")) <= 20


def test_download_copies_the_best_and_overwrites_nothing(finished: Workplace) -> None:
    best = [row["trial"] for row in finished.json("best", "1", "-n", "2")]
    finished.ashwood("download", "1", "--best", "2", "--out", "models")
    assert {path.name for path in (finished.path / "models").iterdir()} == {f"trial-{trial}" for trial in best}
    assert [path.name for path in (finished.path / "models" / f"trial-{best[0]}").iterdir()] == ["state.json"]
    assert "nothing is overwritten" in finished.ashwood("download", "1", "--out", "models", code=1)
    finished.ashwood("download", "1", "--trial", "5", "--out", "fifth")
    assert (finished.path / "fifth" / "trial-5" / "state.json").is_file()
    assert "has no trial 99" in finished.ashwood("download", "1", "--trial", "99", "--out", "x", code=1)


def test_download_refuses_damaged_checkpoint_and_writes_nothing(finished: Workplace) -> None:
    [best] = finished.json("best", "1")
    (Path(best["checkpoint"]) / "state.json").write_text("{}")
    assert "state.json has 2 bytes instead of" in finished.ashwood("download", "1", "--out", "models", code=1)
    assert not list((finished.path / "models").glob("*"))


def test_download_skips_damaged_checkpoints_and_copies_the_others(finished: Workplace) -> None:
    best = finished.json("best", "1", "-n", "6")
    damaged = best[2]["trial"]
    (Path(best[2]["checkpoint"]) / "state.json").write_text("{}")
    output = finished.ashwood("download", "1", "--best", "6", "--out", "models", code=1)
    assert f"trial {damaged} is skipped: the checkpoint" in output
    assert "1 of 6 checkpoints are damaged or missing and were skipped: those of trial" in output
    others = {f"trial-{row['trial']}" for row in best} - {f"trial-{damaged}"}
    assert {path.name for path in (finished.path / "models").iterdir()} == others


# The lower x, the lower the loss at epoch 2, which is not saved, and the higher the loss at the end, which is.
UNSAVED = """
def train(trial):
    x = trial.hparams.x
    for epoch in trial.epochs():
        save = lambda directory, length=epoch + 1: (directory / "length").write_text(str(length))
        if epoch == 1:
            trial.report(loss=0.1 * x, accuracy=0.5)
        else:
            trial.report(loss=2 - x, accuracy=0.6, checkpoint=save)
"""
FOUR_EPOCHS = RANDOM.replace("epochs: 2", "epochs: 4")


@pytest.fixture
def unsaved(workplace: Workplace) -> Workplace:
    workplace.write(FOUR_EPOCHS, UNSAVED)
    workplace.ashwood("run", "toy.yaml", "--workers", "1")
    return workplace


def test_best_everywhere_is_the_trial_with_the_best_checkpoint(unsaved: Workplace) -> None:
    trials = unsaved.json("trials", "1")
    best, lowest = (choose(trials, key=lambda row: float(row["hparams.x"])) for choose in (max, min))
    loss, seen = 2 - best["hparams.x"], 0.1 * lowest["hparams.x"]
    line = f"lowest seen: {seen:.6g} at 2 epochs, trial {lowest['trial']} (not saved)"
    [shown] = unsaved.json("best", "1")
    assert (shown["trial"], shown["metric"]) == (best["trial"], loss)
    assert shown["seen"] == {"metric": 0.1 * best["hparams.x"], "length": 2}
    assert f"trial {best['trial']}, completed: loss {loss:.6g} at" in unsaved.ashwood("best", "1")
    for command in (["best", "1"], ["describe", "1"], ["watch", "1", "--once"]):
        assert line in unsaved.ashwood(*command), command
    [listed] = unsaved.json("list")
    assert (listed["summary"]["best"]["trial"], listed["summary"]["best"]["metric"]) == (best["trial"], loss)
    assert listed["summary"]["seen"]["metric"] == seen
    unsaved.ashwood("download", "1", "--out", "models")
    [model] = (unsaved.path / "models").iterdir()
    assert (model.name, (model / "length").read_text()) == (f"trial-{best['trial']}", str(shown["length"]))


def test_best_and_last_are_columns_to_sort_and_filter_by(unsaved: Workplace) -> None:
    trials = unsaved.json("trials", "1", "--sort", "loss")
    assert [row["best.loss"] for row in trials] == sorted(2 - row["hparams.x"] for row in trials)
    assert all(row["best.loss"] == row["last.loss"] and row["best_length"] in (1, 3, 4) for row in trials)
    assert all(row["seen.loss"] == 0.1 * row["hparams.x"] and row["seen_length"] == 2 for row in trials)
    limit = trials[2]["best.loss"]
    assert [row["trial"] for row in unsaved.json("trials", "1", "--filter", f"loss<={limit!r}", "--sort", "best")] == [
        row["trial"] for row in trials[:3]
    ]
    header = unsaved.ashwood("trials", "1").splitlines()[0]
    assert "best loss" in header
    assert "last loss" in header
    assert "last accuracy" in header


def test_gc_deletes_what_the_log_does_not_need(finished: Workplace) -> None:
    before = finished.json("checkpoints", "1")
    top = Path(before[0]["place"]).parent.parent
    storage = open_storage(top)
    storage.save("trial-0/length-99-attempt-7", lambda directory: (directory / "x").write_bytes(b"0" * 5000))
    (top / "trial-1" / ".writing-length-4-attempt-1").mkdir()
    (top / "notes.txt").write_text("mine")
    dry = finished.ashwood("gc", "1", "--dry-run")
    assert "Would delete 2 checkpoints or leftovers of some, 5.0 kB" in dry
    assert "trial-0/length-99-attempt-7" in dry
    assert "Deleted 2 checkpoints" in finished.ashwood("gc", "1")
    assert {stored.name for stored in storage.complete()} == {row["name"] for row in before}
    assert finished.json("checkpoints", "1") == before
    assert "Nothing to delete; " in finished.ashwood("gc", "1")
    assert (top / "notes.txt").exists()


WRITES = TRAIN.replace(
    "        start += 1\n", "        start += 1\n        (trial.directory / 'notes').write_text(str(start))\n"
)


def test_gc_deletes_directories_of_ended_trials(workplace: Workplace, tmp_path: Path) -> None:
    workplace.write(SMALL, WRITES)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    top = workplace.path / ".ashwood" / "experiments" / "1" / "trials"
    directories = sorted(top.iterdir())
    assert len(directories) == 6
    (directories[0] / "large").symlink_to(tmp_path)
    (tmp_path / "kept").touch()
    (top / "notes").mkdir()
    assert "experiment 1: no problem" in workplace.ashwood("verify")
    assert "Would delete 6 directories of trials that have ended." in workplace.ashwood("gc", "1", "--dry-run")
    assert len(list(top.iterdir())) == 7
    deleted = workplace.ashwood("gc", "1")
    assert all(str(directory) in deleted for directory in directories)
    assert list(top.iterdir()) == [top / "notes"]
    assert (tmp_path / "kept").exists()
    assert "directories" not in workplace.ashwood("gc", "1")


def test_gc_keeps_directories_of_trials_that_may_continue(workplace: Workplace) -> None:
    workplace.write(SMALL.replace("trials: 6", "trials: 6, stop_when: {metric_at: 100}"), WRITES)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    assert workplace.json("describe", "1")["state"] == "stopped"
    top = workplace.path / ".ashwood" / "experiments" / "1" / "trials"
    there = sorted(top.iterdir())
    former = top / f"{there[0].name.partition('-')[0]}-01234567"  # of another draw, before a backup was restored
    former.mkdir()
    deleted = workplace.ashwood("gc", "1")
    assert "Deleted 1 directory of a trial that has ended." in deleted
    assert sorted(top.iterdir()) == there


def test_download_and_export_take_directories_of_trials(workplace: Workplace) -> None:
    workplace.write(SMALL, WRITES)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    [best] = [row["trial"] for row in workplace.json("best", "1")]
    workplace.ashwood("download", "1", "--out", "models", "--directories")
    assert {path.name for path in (workplace.path / "models").iterdir()} == {f"trial-{best}", f"trial-{best}-directory"}
    assert (workplace.path / "models" / f"trial-{best}-directory" / "notes").read_text() == "4"
    (workplace.path / "models" / f"trial-{best}").rename(workplace.path / "elsewhere")
    taken = workplace.ashwood("download", "1", "--out", "models", "--directories", code=1)
    assert "nothing is overwritten" in taken
    assert "no checkpoints and no logs and no directories: add --checkpoints --logs --directories" in workplace.ashwood(
        "export", "1", "--out", "a.ashwood"
    )
    exported = workplace.ashwood("export", "1", "--out", "a.ashwood", "--directories", "--checkpoints")
    assert "6 directories of trials" in exported
    workplace.ashwood("import", "a.ashwood")
    assert len(list((workplace.path / ".ashwood" / "experiments" / "2" / "trials").glob("*/notes"))) == 6
    assert "experiment 2: no problem" in workplace.ashwood("verify")
    assert "--directories is for a whole experiment" in workplace.ashwood(
        "export", "1", "--out", "a.csv", "--directories", code=1
    )


def test_gc_leaves_a_running_experiment_alone(finished: Workplace) -> None:
    with open_home(finished.path / ".ashwood") as home, home.lease(1):
        assert "is running" in finished.ashwood("gc", "1", code=1)


def test_checkpoints_shows_removed_checkpoint_as_missing(finished: Workplace) -> None:
    place = finished.json("checkpoints", "1")[0]["place"]
    (Path(place) / MANIFEST).unlink()
    (Path(place) / "state.json").unlink()
    Path(place).rmdir()
    assert "missing" in finished.ashwood("checkpoints", "1")


# -- S3 ---------------------------------------------------------------------------------------------


@pytest.fixture
def s3() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(300)  # each process imports s3fs, which takes a second of its own
def test_experiment_with_checkpoints_in_s3_runs_pauses_and_resumes(workplace: Workplace, s3: S3) -> None:
    place = s3.new_place()
    slow = TRAIN.replace('print("epoch", epoch)', "import time; time.sleep(0.1)")
    few = SMALL.replace("max_trials: 6", "max_trials: 3")
    workplace.write(few + f"checkpoint_storage: {{type: s3, bucket: bucket, prefix: {place.split('/')[-1]}}}\n", slow)
    with workplace.start("run", "toy.yaml", "--workers", "1", "--json") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"CheckpointSaved"' in line:
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
    assert process.returncode == 3
    paused = workplace.json("checkpoints", "1")
    assert paused
    assert all(row["place"].startswith(f"{place}/toy-") and row["size"] > 0 for row in paused)
    # The training code itself checks that it goes on where its checkpoint is; nothing is trained twice.
    workplace.ashwood("resume", "1", "--workers", "1")
    shown = workplace.json("describe", "1")
    assert (shown["state"], shown["length_repeated"], shown["trials"].get("errored", 0)) == ("completed", 0, 0)
    workplace.ashwood("download", "1", "--out", "models")
    assert list((workplace.path / "models").glob("trial-*/state.json"))


def test_missing_bucket_stops_run_before_first_trial(workplace: Workplace, s3: S3) -> None:
    workplace.write(SMALL + "checkpoint_storage: s3://nowhere/x\n")
    output = workplace.apart("run", "toy.yaml", "--workers", "1", code=1)
    assert "bucket does not exist; create it" in output
    assert workplace.json("trials", "1") == []


IMPATIENT = """
from ashwood.trial import attempt

attempt.RETRY_SECONDS = attempt._LAST_TRIES_SECONDS = 0.2
"""


@pytest.mark.timeout(300)  # each process imports s3fs, which takes a second of its own
def test_expired_credentials_pause_the_experiment_and_fail_no_trial(workplace: Workplace, s3: S3) -> None:
    saved = set[str]()

    def expire_after_two_checkpoints(method: str, path: str) -> str | bool:
        if method == "PUT" and path.endswith(MANIFEST):
            saved.add(path)
        return "403" if len(saved) > 2 else False

    workplace.write(f"{SMALL}checkpoint_storage: {s3.new_place()}\n", IMPATIENT + TRAIN)
    s3.spoil = expire_after_two_checkpoints
    output = workplace.ashwood("run", "toy.yaml", "--workers", "2", code=1)
    assert "the checkpoint storage cannot be used: cannot" in output
    assert "The provided token has expired; renew the credentials" in output
    assert "When the checkpoint storage can be used again, continue with: ashwood resume 1" in output
    assert workplace.json("describe", "1")["state"] == "paused"
    before = workplace.ashwood("events", "1")
    output = workplace.ashwood("resume", "1", code=1)
    assert "No trial was started or failed. When the storage can be used, continue with: ashwood resume 1" in output
    assert workplace.ashwood("events", "1") == before
    s3.spoil = lambda _method, _path: False
    workplace.ashwood("resume", "1", "--workers", "2")
    assert workplace.json("describe", "1")["state"] == "completed"
    assert [trial["failures"] for trial in workplace.json("trials", "1")] == [0] * 6
    assert "every decision matches the event log" in workplace.ashwood("replay", "1")


def test_gc_aborts_unfinished_uploads(workplace: Workplace, s3: S3) -> None:
    import boto3

    place = s3.new_place()
    workplace.write(SMALL.replace("max_trials: 6", "max_trials: 1") + f"checkpoint_storage: {place}\n")
    workplace.ashwood("run", "toy.yaml", "--workers", "1")
    directory = workplace.json("checkpoints", "1")[0]["place"].rpartition("/trial-")[0].removeprefix("s3://bucket/")
    key = f"{directory}/trial-0/length-9-attempt-1/x"
    boto3.client("s3").create_multipart_upload(Bucket="bucket", Key=key)
    assert "Would abort 1 unfinished upload." in workplace.ashwood("gc", "1", "--dry-run")
    assert "Aborted 1 unfinished upload." in workplace.ashwood("gc", "1")
    assert "unfinished" not in workplace.ashwood("gc", "1")
