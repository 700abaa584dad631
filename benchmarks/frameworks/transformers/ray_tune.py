"""Search with Ray Tune, which ends trials early and continues failed ones from checkpoints."""

from pathlib import Path

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification

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


class ReportCallback(TrainerCallback):
    """Report each evaluation with the checkpoint that the trainer has saved after it."""

    def __init__(self):
        self.metrics = {}

    def on_evaluate(self, args, state, control, metrics, **kwargs):  # noqa: ARG002
        self.metrics = metrics

    def on_save(self, args, state, control, **kwargs):  # noqa: ARG002
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        tune.report(self.metrics, checkpoint=tune.Checkpoint.from_directory(path))


def train(config):
    args = TrainingArguments(
        output_dir="output",
        num_train_epochs=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        learning_rate=config["learning_rate"],
        per_device_train_batch_size=config["batch_size"],
        report_to="none",
    )
    trainer = Trainer(
        model_init=build,
        args=args,
        train_dataset=examples[:1200],
        eval_dataset=examples[1200:],
        callbacks=[ReportCallback()],
    )
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as directory:
            trainer.train(resume_from_checkpoint=directory)
    else:
        trainer.train()


if __name__ == "__main__":
    space = {"learning_rate": tune.loguniform(1e-4, 1e-2), "batch_size": tune.choice([32, 64])}
    scheduler = ASHAScheduler(metric="eval_loss", mode="min", max_t=4)
    tuner = tune.Tuner(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=4),
        run_config=tune.RunConfig(failure_config=tune.FailureConfig(max_failures=2)),
    )
    print(tuner.fit().get_best_result(metric="eval_loss", mode="min").config)
