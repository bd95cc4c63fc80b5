"""Planted: a wide network learns sixty noisy amounts by heart, while the loss on new ones rises."""

import torch
from torch import nn

torch.manual_seed(11)
rows = torch.randn(360, 12)
amounts = (rows[:, :3].sum(1) + rows[:, 3] * rows[:, 4] + 1.5 * torch.randn(360))[:, None]
known, new = slice(0, 60), slice(60, 360)
model = nn.Sequential(nn.Linear(12, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(60):
    model.train()
    for chosen in torch.randperm(60).split(12):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(rows[known][chosen]), amounts[known][chosen]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        nn.functional.mse_loss(model(rows[new]), amounts[new])
