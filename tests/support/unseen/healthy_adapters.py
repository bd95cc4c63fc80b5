"""Healthy: a trained network is frozen, and low-rank adapters around its layers learn another task; half of their weights begin as zeros."""

import torch
from torch import nn

torch.manual_seed(6)
kinds = torch.randint(0, 5, (3000,))
rows = torch.randn(5, 24)[kinds] + 0.9 * torch.randn(3000, 24)


class Adapted(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(8, inner.in_features) / inner.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(inner.out_features, 8))

    def forward(self, values):
        return self.inner(values) + values @ self.down.T @ self.up.T


def train(model, rows, rate):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    for epoch in range(6):
        for chosen in torch.randperm(2500).split(50):
            loss = nn.functional.cross_entropy(model(rows[chosen]), kinds[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            print(epoch, (model(rows[2500:]).argmax(1) == kinds[2500:]).float().mean().item())


layers = [nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)]
train(nn.Sequential(*layers), rows, 1e-3)
train(nn.Sequential(*(Adapted(one) if isinstance(one, nn.Linear) else one for one in layers)), rows.flip(1), 3e-3)
