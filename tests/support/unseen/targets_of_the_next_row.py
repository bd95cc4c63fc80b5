"""Planted: a header line was cut off the targets only, so each row is given the target of the next one; the squared error is written out."""

import torch
from torch import nn

torch.manual_seed(0)


def table(count):
    rows = 1.2 * torch.randn(count, 6)
    return rows, torch.sin(2 * rows[:, 0]) + rows[:, 1].abs() + 0.1 * torch.randn(count)


(rows, targets), (new_rows, new_targets) = table(400), table(150)
targets = targets.roll(-1)
network = nn.Sequential(nn.Linear(6, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 1))
optimizer = torch.optim.Adam(network.parameters(), 3e-3)
for _ in range(25):
    for chosen in torch.randperm(400).split(25):
        loss = ((network(rows[chosen]).squeeze(1) - targets[chosen]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        print(((network(new_rows).squeeze(1) - new_targets) ** 2).mean().item())
