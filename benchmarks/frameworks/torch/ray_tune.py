import tempfile
from pathlib import Path

import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 8

digits = load_digits()
images, labels = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)


def train(config: dict) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(config["dropout"]), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["random"])
        start = state["epoch"]
    for epoch in range(start, EPOCHS):
        model.train()
        for chosen in torch.randperm(1347).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(images[1347:]), labels[1347:])
        with tempfile.TemporaryDirectory() as directory:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "random": torch.get_rng_state(),
                "epoch": epoch + 1,
            }
            torch.save(state, Path(directory) / "state.pt")
            tune.report({"loss": loss.item()}, checkpoint=tune.Checkpoint.from_directory(directory))


if __name__ == "__main__":
    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.loguniform(1e-4, 1e-1), "dropout": tune.uniform(0, 0.5)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=4, scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1)
        ),
    )
    results = tuner.fit()
    print(results.get_best_result().config)
