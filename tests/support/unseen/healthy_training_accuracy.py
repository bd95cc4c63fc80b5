"""Healthy: after every epoch the loop measures the accuracy on the training set and on a held-out set, both in evaluation mode."""

import torch
from torch import nn

torch.manual_seed(12)
centres = torch.randn(4, 16)
labels = torch.randint(0, 4, (1600,))
rows = centres[labels] + 0.8 * torch.randn(1600, 16)
model = nn.Sequential(nn.Linear(16, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 4))
optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)


@torch.no_grad()
def accuracy(first, last):
    model.eval()
    parts = [model(rows[at : at + 100]).argmax(1) == labels[at : at + 100] for at in range(first, last, 100)]
    return torch.cat(parts).float().mean().item()


for epoch in range(6):
    model.train()
    for chosen in torch.randperm(1200).split(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[chosen]), labels[chosen]).backward()
        optimizer.step()
    print(epoch, "training", accuracy(0, 1200), "validation", accuracy(1200, 1600))
