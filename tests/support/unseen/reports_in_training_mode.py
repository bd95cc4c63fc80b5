"""Planted: a report on each class runs under no_grad but in training mode, and drags the running statistics of batch norm to the last class."""

import torch
from torch import nn

torch.manual_seed(9)
centres = 2 * torch.randn(5, 20)
labels = torch.randint(0, 5, (2000,))
rows = centres[labels] + 2.0 * torch.randn(2000, 20)
model = nn.Sequential(nn.Linear(20, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 5))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(4):
    model.train()
    for chosen in torch.randperm(1500).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[chosen]), labels[chosen]).backward()
        optimizer.step()
    with torch.no_grad():
        for one in range(5):
            own = rows[:1500][labels[:1500] == one]
            print(epoch, one, torch.cat([(model(part).argmax(1) == one).float() for part in own.split(40)]).mean().item())
    model.eval()
    with torch.no_grad():
        print(epoch, (model(rows[1500:]).argmax(1) == labels[1500:]).float().mean().item())
