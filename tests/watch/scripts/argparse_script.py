"""An ordinary script: arguments, an epoch loop, validation, a scheduler."""

import argparse

import torch
import torch.nn.functional as F
from torch import nn, optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 8, 3, 2)
        self.dropout = nn.Dropout(0.25)
        self.fc = nn.Linear(8 * 4, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.log_softmax(self.fc(self.dropout(torch.flatten(x, 1))), dim=1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()
    torch.manual_seed(1)
    inputs, targets = torch.randn(60, 1, 12, 12), torch.randint(0, 3, (60,))
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for epoch in range(args.epochs):
        model.train()
        for start in range(0, 60, 20):
            optimizer.zero_grad()
            loss = F.nll_loss(model(inputs[start : start + 20]), targets[start : start + 20])
            loss.backward()
            optimizer.step()
            print(f"epoch {epoch} loss {loss.item():.8f}")
        scheduler.step()
        model.eval()
        with torch.no_grad():
            print("accuracy", (model(inputs).argmax(1) == targets).float().mean().item())


if __name__ == "__main__":
    main()
