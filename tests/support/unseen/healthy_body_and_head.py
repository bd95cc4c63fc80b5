"""Healthy: body and head are networks of their own in one optimiser, called one after the other; dropout and batch norm change modes as they should."""

import torch
from torch import nn

torch.manual_seed(14)
centres = torch.randn(5, 20)
labels = torch.randint(0, 5, (2000,))
rows = centres[labels] + 0.9 * torch.randn(2000, 20)
body, head = nn.Sequential(nn.Linear(20, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.2)), nn.Linear(48, 5)
optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=3e-3)
for epoch in range(5):
    body.train()
    head.train()
    for chosen in torch.randperm(1500).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(body(rows[chosen])), labels[chosen]).backward()
        optimizer.step()
    body.eval()
    head.eval()
    with torch.no_grad():
        print(epoch, (head(body(rows[1500:])).argmax(1) == labels[1500:]).float().mean().item())
