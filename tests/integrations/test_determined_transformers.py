"""`determined.transformers.DetCallback` in trials that are paused and promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import ashwood  # noqa: E402
from ashwood.integrations import determined as det  # noqa: E402
from ashwood.integrations.determined.transformers import DetCallback  # noqa: E402
from tests.integrations.attempts import Training  # noqa: E402


class Sequences(torch.utils.data.Dataset):  # type: ignore[misc,name-defined]
    def __init__(self, seed: int, count: int = 32) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(0, 16, (count, 8), generator=generator)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = self.tokens[index]
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": int(tokens.sum() > 60)}


def classify(trial: ashwood.Trial, **changes: Any) -> None:
    info = det.get_cluster_info()
    assert info is not None
    with det.core.init() as core_context:
        transformers.set_seed(info.trial.trial_seed)
        config = transformers.BertConfig(
            vocab_size=16,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            num_labels=2,
        )
        options = {"num_train_epochs": 4, "eval_strategy": "epoch", "save_strategy": "no", "logging_steps": 2}
        args = transformers.TrainingArguments(
            output_dir="out",
            per_device_train_batch_size=8,
            learning_rate=info.trial.hparams["lr"],
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=info.trial.trial_seed % 2**31,
            **(options | changes),
        )
        trainer = transformers.Trainer(
            model=transformers.BertForSequenceClassification(config),
            args=args,
            train_dataset=Sequences(1),
            eval_dataset=Sequences(2),
        )
        trainer.add_callback(DetCallback(core_context, args, user_data={"note": 1}))
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)


OPTIONS: dict[str, Any] = {"hparams": {"lr": 1e-3}, "metric": "eval_loss"}


def test_callback_reports_and_resumes(tmp_path: Path) -> None:
    straight = Training(classify, tmp_path / "straight", targets=[4], **OPTIONS)
    paused = Training(classify, tmp_path / "paused", targets=[1, 2, 4], pauses_at_targets=True, **OPTIONS)
    assert str(straight.outcome) == "Ended(length=4)", straight.outcome
    assert paused.outcome == straight.outcome
    assert paused.attempts == 3
    for length in (1, 2, 3, 4):
        assert paused.reports[length]["eval_loss"] == straight.reports[length]["eval_loss"], length
    assert any("training.loss" in metrics for metrics in straight.reports.values())
    directory = next(iter((paused.checkpoints / paused.saved[-1]).glob("checkpoint-*")))
    assert (directory / "my_data.json").read_text() == '{"note": 1}'


def test_callback_counts_steps(tmp_path: Path) -> None:
    changes = {"max_steps": 10, "eval_strategy": "no"}
    found = Training(
        lambda trial: classify(trial, **changes), tmp_path, targets=[3, 10], unit="batches", **OPTIONS
    )  # fmt: skip
    assert str(found.outcome) == "Ended(length=10)", found.outcome
    assert {length for length, metrics in found.reports.items() if "eval_loss" in metrics} == {3, 10}


def test_callback_counts_epochs_if_time_metric_is_the_metric_of_the_trainer(tmp_path: Path) -> None:
    config = {"searcher": {"time_metric": "epoch", "max_time": 4}}
    found = Training(classify, tmp_path, targets=[1, 4], unit="steps", config=config, **OPTIONS)
    assert str(found.outcome) == "Ended(length=4)", found.outcome
    assert {length for length, metrics in found.reports.items() if "eval_loss" in metrics} == {1, 2, 3, 4}


def test_callback_says_which_length_the_trainer_needs(tmp_path: Path) -> None:
    found = Training(classify, tmp_path, targets=[5], **OPTIONS)
    assert "set num_train_epochs to 5" in str(found.outcome)
