"""Planted: a regression with a learning rate of 0.9; the loss overflows within a few steps."""

import torch
from torch import nn

torch.manual_seed(1)
inputs = 2 * torch.randn(800, 8)
targets = 3 * torch.sin(inputs[:, 0]) + inputs[:, 1]
model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.9, momentum=0.9)
for _ in range(220):
    chosen = torch.randint(0, 800, (64,))
    loss = ((model(inputs[chosen]).squeeze(1) - targets[chosen]) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item())
