"""Search with Optuna, through the `hyperparameter_search` of Transformers, which ends trials early."""

import optuna
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

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


def hp_space(trial):
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", [32, 64]),
    }


if __name__ == "__main__":
    args = TrainingArguments(output_dir="output", num_train_epochs=4, eval_strategy="epoch", report_to="none")
    trainer = Trainer(model_init=build, args=args, train_dataset=examples[:1200], eval_dataset=examples[1200:])
    best = trainer.hyperparameter_search(
        hp_space,
        n_trials=4,
        direction="minimize",
        backend="optuna",
        pruner=optuna.pruners.SuccessiveHalvingPruner(),
    )
    print(best)
