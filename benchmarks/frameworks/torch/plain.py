import torch
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 8

digits = load_digits()
images, labels = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)


def train(lr: float, dropout: float) -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        model.train()
        for chosen in torch.randperm(1347).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(images[1347:]), labels[1347:])
        print(epoch + 1, loss.item())


if __name__ == "__main__":
    torch.manual_seed(0)
    train(lr=0.01, dropout=0.2)
