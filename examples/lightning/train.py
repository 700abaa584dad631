"""A small network on scikit-learn's digits, in Lightning."""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import ashwood

digits = load_digits()
images = torch.from_numpy(digits.data.astype("float32") / 16)
labels = torch.from_numpy(digits.target)
train_set, valid_set = random_split(TensorDataset(images, labels), [0.75, 0.25], torch.Generator().manual_seed(0))


class Classifier(L.LightningModule):
    def __init__(self, hidden: int, dropout: float, learning_rate: float) -> None:
        super().__init__()
        self.save_hyperparameters()  # so that load_from_checkpoint() needs no arguments
        self.learning_rate = learning_rate
        self.layers = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10))

    def training_step(self, batch, _index):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.layers(inputs), targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _index):
        inputs, targets = batch
        output = self.layers(inputs)
        self.log("val_loss", nn.functional.cross_entropy(output, targets))
        self.log("val_accuracy", (output.argmax(1) == targets).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        steps = self.trainer.estimated_stepping_batches  # from the max_length of the search
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def train(trial: ashwood.Trial) -> None:
    L.seed_everything(trial.seed)
    trainer = L.Trainer(
        accelerator="auto",
        default_root_dir=trial.directory,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train_loader = DataLoader(train_set, batch_size=trial.data.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=450)
    ashwood.lightning.fit(trial, trainer, Classifier(**trial.hparams), train_loader, valid_loader)


if __name__ == "__main__":
    defaults = {"hidden": 32, "dropout": 0.1, "learning_rate": 0.01}
    train(ashwood.get_trial(hparams=defaults, data={"batch_size": 64}, epochs=4))
