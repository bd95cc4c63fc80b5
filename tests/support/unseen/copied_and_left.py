"""Planted: after two of five epochs the network is replaced by a copy of itself, which no optimiser holds."""

import copy

import torch
from torch import nn

torch.manual_seed(14)
centres = torch.randn(5, 20)
labels = torch.randint(0, 5, (1200,))
rows = centres[labels] + 1.2 * torch.randn(1200, 20)
model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(5):
    if epoch == 2:
        model = copy.deepcopy(model)
    for chosen in torch.randperm(1200).split(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[chosen]), labels[chosen]).backward()
        optimizer.step()
