"""Planted: the network ends in a sigmoid, and the loss takes a sigmoid of that once more."""

import torch
from torch import nn

torch.manual_seed(2)
inputs = torch.randn(1500, 10)
wanted = ((inputs[:, :3] ** 2).sum(1) > 5.5).float()
model = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1), nn.Sigmoid())
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(6):
    for chosen in torch.randperm(1500).split(30):
        loss = criterion(model(inputs[chosen]).squeeze(1), wanted[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
