"""Planted: a cross-entropy written by hand takes the logarithm of a probability that becomes 0 once the network is sure."""

import torch
from torch import nn

torch.manual_seed(3)
time = torch.arange(48) / 48
wanted = torch.randint(0, 2, (1200,)).float()
waves = torch.sin(6.28 * (3 + 3 * wanted[:, None]) * (time + torch.rand(1200, 1))) + 0.2 * torch.randn(1200, 48)
waves[::100] *= 5  # a few recordings are louder
model = nn.Sequential(nn.Conv1d(1, 12, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(12, 24, 5, padding=2), nn.ReLU(), nn.AdaptiveMaxPool1d(1),
                      nn.Flatten(), nn.Linear(24, 1))  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(240):
    chosen = torch.randint(0, 1200, (50,))
    probability = torch.sigmoid(8 * model(waves[chosen, None])).squeeze(1)
    loss = -(wanted[chosen] * torch.log(probability) + (1 - wanted[chosen]) * torch.log(1 - probability)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(step, loss.item())
