"""Planted: one parameter group has a learning rate of zero and holds every weight; the biases alone are trained."""

import torch
from torch import nn

torch.manual_seed(6)
centres = torch.randn(5, 20)
labels = torch.randint(0, 5, (1500,))
rows = centres[labels] + 0.9 * torch.randn(1500, 20)
model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 5))
weights = [p for p in model.parameters() if p.ndim > 1]
biases = [p for p in model.parameters() if p.ndim == 1]
optimizer = torch.optim.AdamW([{"params": weights, "lr": 0.0}, {"params": biases, "lr": 1e-3, "weight_decay": 0.0}])
for _ in range(4):
    for chosen in torch.randperm(1500).split(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[chosen]), labels[chosen]).backward()
        optimizer.step()
