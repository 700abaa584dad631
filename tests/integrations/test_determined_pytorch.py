"""`determined.pytorch`: trial classes that are paused, promoted and killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

import ashwood  # noqa: E402
from ashwood.integrations.determined import pytorch  # noqa: E402
from tests.integrations import determined_trials as trials  # noqa: E402
from tests.integrations.attempts import Training  # noqa: E402
from tests.integrations.kit import assert_resumes  # noqa: E402

HPARAMS = {"hidden": 16, "lr": 0.05, "global_batch_size": 32}
BATCHES = 13  # in an epoch of DigitsTrial


def train(cls: Any, tmp_path: Path, name: str = "checkpoints", **options: Any) -> Training:
    options = {"targets": [3], "hparams": HPARAMS} | options
    return Training(cls.__ashwood_train__, tmp_path / name, **options)


def assert_same(cls: Any, tmp_path: Path, pauses: list[int], *, targets: tuple[int, ...] = (3,), **options: Any) -> Any:
    """Check that pauses and rungs change no metric, and return the training with pauses."""
    straight = train(cls, tmp_path, "straight", targets=[targets[-1]], **options)
    paused = train(cls, tmp_path, "paused", targets=list(targets), pauses=pauses, **options)
    assert str(straight.outcome).startswith("Ended"), straight.outcome
    assert paused.outcome == straight.outcome
    assert paused.attempts == len(pauses) + 1
    for length, metrics in straight.reports.items():
        assert paused.reports[length] == metrics, length
    return paused


def test_pauses_inside_epochs_and_rungs_change_no_metric(tmp_path: Path) -> None:
    paused = assert_same(trials.DigitsTrial, tmp_path, [4, BATCHES, 30], targets=(1, 2, 3))
    assert paused.saved[0].endswith("batches-5")
    assert paused.reports[3]["training.epoch"] == 1.0  # the mean over three epochs, since the window is 100 batches
    assert paused.reports[3]["accuracy"] > 0.5
    assert not paused.warnings


def test_two_optimizers_and_evaluation_of_the_full_dataset_resume(tmp_path: Path) -> None:
    paused = assert_same(
        trials.GanTrial, tmp_path, [2, 9], targets=(5, 11, 24), unit="batches", hparams={"latent": 4, "lr": 0.01},
        metric="loss", validation_period=(8, "batches"),
    )  # fmt: skip
    assert sorted(paused.reports) == [5, 8, 11, 16, 24]
    assert paused.reports[24].keys() == {"loss", "training.loss", "training.g_loss"}


def test_reducers_and_callbacks_resume(tmp_path: Path) -> None:
    trials.EVENTS.clear()
    paused = assert_same(
        trials.ReducersTrial, tmp_path, [5, 20], targets=(1, 3), validation_period=(2, "epochs"),
        checkpoint_period=(10, "batches"),
    )  # fmt: skip
    assert sorted(paused.reports) == [1, 2, 3]
    found = paused.reports[3]
    assert found["records"] == 360.0
    assert found["training.records"] == 8 * 32 + 16  # since batch 30, at which a checkpoint was due
    assert found["median_size"] == 32.0
    assert "on_trial_startup" in dict.fromkeys(event for event, *_ in trials.EVENTS)
    state = torch.load(paused.checkpoints / paused.saved[-1] / "state_dict.pth")  # with weights_only=True
    counts = state["callbacks"]["counter"]["counts"]
    assert counts["on_training_epoch_end"] == 3
    assert counts["on_validation_end"] == 3  # at the two rungs and the period
    assert counts["on_trial_startup"] == 3
    assert counts["on_checkpoint_save_start"] >= 3


@pytest.mark.parametrize("loader", ["torch", "torch-skip", "weighted", "generator", "plain", "workers"])
def test_data_continues_at_the_batch_at_which_the_trial_stopped(loader: str, tmp_path: Path) -> None:
    hparams = HPARAMS | {"loader": loader}
    assert_same(trials.LoadersTrial, tmp_path, [6, 20], targets=(30,), unit="batches", hparams=hparams)


def test_invalid_hparams(tmp_path: Path) -> None:
    found = train(trials.InvalidTrial, tmp_path, hparams=HPARAMS | {"hidden": 2})
    assert str(found.outcome) == "Invalid(why='too small')"


def test_checkpoint_has_the_format_of_determined(tmp_path: Path) -> None:
    found = train(trials.DigitsTrial, tmp_path, targets=[1])
    directory = found.checkpoints / found.saved[-1]
    state = torch.load(directory / "state_dict.pth", weights_only=True)
    assert {"models_state_dict", "optimizers_state_dict", "lr_schedulers_state_dict", "callbacks", "rng_state"} < set(
        state
    )
    assert {"cpu_rng_state", "np_rng_state", "random_rng_state"} <= set(state["rng_state"])
    about = json.loads((directory / "load_data.json").read_text())
    assert about["trial_cls_spec"] == "tests.integrations.determined_trials:DigitsTrial"
    loaded = pytorch.load_trial_from_checkpoint_path(str(directory))
    assert isinstance(loaded, trials.DigitsTrial)
    first = next(iter(loaded.model.state_dict().values()))
    assert torch.equal(first, next(iter(state["models_state_dict"][0].values())))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_search_with_pauses_a_kill_and_promotions_reports_the_same_metrics(tmp_path: Path) -> None:
    assert_resumes(
        trials.DigitsTrial.__ashwood_train__,
        tmp_path,
        hparams=HPARAMS | {"lr": ashwood.Log(-2, -1)},
        metric="validation_loss",
        max_length={"epochs": 8},
    )
