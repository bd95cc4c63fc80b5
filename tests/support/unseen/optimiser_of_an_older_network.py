"""Planted: the network is made anew after the optimiser, which goes on stepping weights that nobody uses."""

import torch
from torch import nn


def network():
    return nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 4))


torch.manual_seed(31)
centres = torch.randn(4, 16)
labels = torch.randint(0, 4, (1200,))
rows = centres[labels] + torch.randn(1200, 16)
model = network()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
model = network()
for epoch in range(4):
    for chosen in torch.randperm(1200).split(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(rows[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
