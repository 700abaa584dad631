"""A small convolutional network on scikit-learn's digits, in PyTorch, reporting by batches."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import ashwood

device = "cuda" if torch.cuda.is_available() else "cpu"
digits = load_digits()
# By NumPy: a module that computes in PyTorch's threads when it is imported is imported anew for every stretch on a GPU.
images = torch.from_numpy(digits.images.astype("float32") / 16).unsqueeze(1)
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train_set, valid_set = order[:1347], order[1347:]


def build(hp) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, hp.channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(hp.dropout),
        nn.Linear(hp.channels * 16, 10),
    )


def train(trial: ashwood.Trial) -> None:
    hp = trial.hparams
    torch.manual_seed(trial.seed)
    model = build(hp).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=hp.learning_rate, momentum=hp.momentum)
    if trial.checkpoint:
        state = torch.load(trial.checkpoint / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    def save(directory) -> None:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, directory / "state.pt")

    for _batch in trial.batches():
        chosen = train_set[torch.randint(len(train_set), (hp.global_batch_size,))]
        loss = nn.functional.cross_entropy(model(images[chosen].to(device)), labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if trial.validation_due:
            model.eval()
            with torch.no_grad():
                output = model(images[valid_set].to(device)).cpu()
            model.train()
            trial.report(
                validation_loss=nn.functional.cross_entropy(output, labels[valid_set]),
                validation_accuracy=(output.argmax(1) == labels[valid_set]).float().mean(),
                checkpoint=save,
            )


if __name__ == "__main__":
    defaults = {"channels": 8, "dropout": 0.1, "learning_rate": 0.1, "momentum": 0.9, "global_batch_size": 32}
    train(ashwood.get_trial(hparams=defaults, batches=200))
