import lightning as L
import optuna
import torch
from optuna_integration import PyTorchLightningPruningCallback
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


def train(trial: optuna.Trial) -> float:
    L.seed_everything(trial.number)
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    dropout = trial.suggest_float("dropout", 0, 0.5)
    pruning = PyTorchLightningPruningCallback(trial, monitor="val_loss")
    trainer = L.Trainer(max_epochs=EPOCHS, logger=False, enable_checkpointing=False, callbacks=[pruning])
    trainer.fit(Classifier(lr, dropout), DataLoader(train_set, 64, shuffle=True), DataLoader(valid_set, 450))
    return trainer.callback_metrics["val_loss"].item()


if __name__ == "__main__":
    pruner = optuna.pruners.SuccessiveHalvingPruner()
    study = optuna.create_study(direction="minimize", pruner=pruner)
    study.optimize(train, n_trials=4)
    print(study.best_params)
