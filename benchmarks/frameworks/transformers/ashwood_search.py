"""Search with Ashwood, which pauses trials and continues them from checkpoints."""

from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import ashwood

digits = load_digits()
examples = [
    {"pixel_values": (image[None] / 8 - 1).astype("float32"), "labels": label}
    for image, label in zip(digits.images, digits.target, strict=True)
]
config = ViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    initializer_range=0.2,
    num_labels=10,
)


def build():
    return ViTForImageClassification(config)


def train(trial):
    args = TrainingArguments(
        output_dir=trial.directory,
        eval_strategy="epoch",
        learning_rate=trial.hparams.learning_rate,
        per_device_train_batch_size=trial.hparams.batch_size,
        report_to="none",
    )
    trainer = Trainer(model_init=build, args=args, train_dataset=examples[:1200], eval_dataset=examples[1200:])
    ashwood.transformers.train(trial, trainer)


if __name__ == "__main__":
    hparams = {"learning_rate": ashwood.Log(-4, -2), "batch_size": ashwood.Categorical([32, 64])}
    searcher = ashwood.AdaptiveASHA(metric="eval_loss", max_length={"epochs": 4}, max_trials=4)
    experiment = ashwood.run(train, hparams=hparams, searcher=searcher)
    print(experiment.best_trial)
