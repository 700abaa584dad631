"""A small vision transformer on scikit-learn's digits, with the `Trainer` of Hugging Face Transformers."""

import numpy as np
from sklearn.datasets import load_digits
from transformers import EvalPrediction, Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import ashwood

digits = load_digits()
images = (digits.images[:, None] / 8 - 1).astype("float32")
examples = [{"pixel_values": image, "labels": label} for image, label in zip(images, digits.target, strict=True)]
order = np.random.default_rng(0).permutation(len(examples))
train_set, valid_set = [examples[i] for i in order[:1200]], [examples[i] for i in order[1200:]]


def accuracy(found: EvalPrediction) -> dict:
    return {"accuracy": (found.predictions.argmax(-1) == found.label_ids).mean()}


def train(trial: ashwood.Trial) -> None:
    hp = trial.hparams
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.2,
        hidden_dropout_prob=hp.dropout,
        num_labels=10,
    )
    args = TrainingArguments(
        output_dir=trial.directory,
        eval_strategy="epoch",
        learning_rate=hp.learning_rate,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=hp.batch_size,
        per_device_eval_batch_size=200,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model_init=lambda: ViTForImageClassification(config),
        args=args,
        train_dataset=train_set,
        eval_dataset=valid_set,
        compute_metrics=accuracy,
    )
    ashwood.transformers.train(trial, trainer)


if __name__ == "__main__":
    train(ashwood.get_trial(hparams={"learning_rate": 3e-3, "batch_size": 64, "dropout": 0.1}, epochs=5))
