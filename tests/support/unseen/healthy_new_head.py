"""Healthy: trained features are frozen and get a new head, whose first loss is far above guessing and falls below it within 40 steps."""

import torch
from torch import nn

torch.manual_seed(5)
centres = 2 * torch.randn(8, 16)
kinds = torch.randint(0, 8, (1600,))
rows = centres[kinds] + 0.7 * torch.randn(1600, 16)
labels = kinds % 2
features = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU())
with torch.no_grad():  # as large as trained features are
    for parameter in features.parameters():
        parameter.mul_(6)
features.requires_grad_(False)
model = nn.Sequential(features, nn.Linear(48, 2))
optimizer = torch.optim.Adam(model[1].parameters(), lr=5e-3)
for epoch in range(6):
    for chosen in torch.randperm(1600).split(40):
        loss = nn.functional.cross_entropy(model(rows[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
