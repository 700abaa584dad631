"""A small convolutional network on scikit-learn's digits, in PyTorch, reporting by batches."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import ashwood

device = "cuda" if torch.cuda.is_available() else "cpu"
digits = load_digits()
# Use NumPy here: a module that computes in PyTorch's threads when it is imported is imported again for every attempt
# on a GPU.
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
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, trial.max_length)
    with ashwood.torch.state(trial, model=model, optimizer=optimizer, scheduler=scheduler) as save:
        for _batch in trial.batches():
            chosen = train_set[torch.randint(len(train_set), (hp.global_batch_size,))]
            loss = nn.functional.cross_entropy(model(images[chosen].to(device)), labels[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            if trial.validation_due:
                trial.report(evaluate(model), checkpoint=save)


def evaluate(model: nn.Module) -> dict[str, torch.Tensor]:
    model.eval()
    with torch.no_grad():
        output = model(images[valid_set].to(device)).cpu()
    model.train()
    return {
        "validation_loss": nn.functional.cross_entropy(output, labels[valid_set]),
        "validation_accuracy": (output.argmax(1) == labels[valid_set]).float().mean(),
    }


if __name__ == "__main__":
    defaults = {"channels": 8, "dropout": 0.1, "learning_rate": 0.1, "momentum": 0.9, "global_batch_size": 32}
    train(ashwood.get_trial(hparams=defaults, batches=200))
