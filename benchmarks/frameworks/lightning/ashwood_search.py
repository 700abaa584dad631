import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ashwood

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


def train(trial: ashwood.Trial) -> None:
    L.seed_everything(trial.seed)
    trainer = L.Trainer(default_root_dir=trial.directory, logger=False, enable_checkpointing=False)
    model = Classifier(**trial.hparams)
    ashwood.lightning.fit(trial, trainer, model, DataLoader(train_set, 64, shuffle=True), DataLoader(valid_set, 450))


if __name__ == "__main__":
    hparams = {"lr": ashwood.Log(-4, -1), "dropout": ashwood.Double(0, 0.5)}
    searcher = ashwood.AdaptiveASHA(metric="val_loss", max_length={"epochs": EPOCHS}, max_trials=4)
    experiment = ashwood.run(train, hparams=hparams, searcher=searcher)
    print(experiment.best_trial)
