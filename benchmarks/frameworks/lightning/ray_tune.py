from pathlib import Path

import lightning as L
import torch
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 8

digits = load_digits()
images, labels = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
train_set, valid_set = TensorDataset(images[:1347], labels[:1347]), TensorDataset(images[1347:], labels[1347:])


class Classifier(L.LightningModule):
    def __init__(self, lr: float, dropout: float) -> None:
        super().__init__()
        self.lr = lr
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 10))

    def training_step(self, batch, _index):
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch, _index):
        self.log("val_loss", nn.functional.cross_entropy(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def train(config: dict) -> None:
    L.seed_everything(0)
    report = TuneReportCheckpointCallback({"val_loss": "val_loss"}, filename="model.ckpt", on="validation_end")
    trainer = L.Trainer(max_epochs=EPOCHS, logger=False, enable_checkpointing=False, callbacks=[report])
    model = Classifier(**config)
    loaders = DataLoader(train_set, 64, shuffle=True), DataLoader(valid_set, 450)
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            trainer.fit(model, *loaders, ckpt_path=Path(directory) / "model.ckpt")
    else:
        trainer.fit(model, *loaders)


if __name__ == "__main__":
    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-4, 1e-1), "dropout": tune.uniform(0, 0.5)},
        tune_config=tune.TuneConfig(
            metric="val_loss", mode="min", num_samples=4, scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1)
        ),
    )
    results = tuner.fit()
    print(results.get_best_result().config)
