import torch
from sklearn.datasets import load_digits
from torch import nn

import ashwood

EPOCHS = 8

digits = load_digits()
images, labels = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)


def train(trial: ashwood.Trial) -> None:
    torch.manual_seed(trial.seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(trial.hparams.dropout), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=trial.hparams.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    with ashwood.torch.state(trial, model=model, optimizer=optimizer, scheduler=scheduler) as save:
        for _epoch in trial.epochs():
            model.train()
            for chosen in torch.randperm(1347).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
                optimizer.step()
            scheduler.step()
            model.eval()
            with torch.no_grad():
                loss = nn.functional.cross_entropy(model(images[1347:]), labels[1347:])
            trial.report(loss=loss, checkpoint=save)


if __name__ == "__main__":
    hparams = {"lr": ashwood.Log(-4, -1), "dropout": ashwood.Double(0, 0.5)}
    searcher = ashwood.AdaptiveASHA(metric="loss", max_length={"epochs": EPOCHS}, max_trials=4)
    experiment = ashwood.run(train, hparams=hparams, searcher=searcher)
    print(experiment.best_trial)
