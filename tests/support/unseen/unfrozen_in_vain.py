"""Planted: after the first epoch `layer.requires_grad = True` is set on the layers of a body trained for another task; a module does not hand it on."""

import torch
from torch import nn

torch.manual_seed(11)
centres = torch.randn(8, 20)
labels = torch.randint(0, 8, (2000,))
rows = centres[labels] + 0.6 * torch.randn(2000, 20)
body = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8), nn.ReLU())
model = nn.Sequential(body, nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(60):  # another task: whether the first number is positive
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(rows), (rows[:, 0] > 0).long()).backward()
    optimizer.step()
model[1] = nn.Linear(8, 8)
for weight in body.parameters():
    weight.requires_grad = False
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(6):
    if epoch == 1:
        for layer in body:
            layer.requires_grad = True
    for chosen in torch.randperm(1500).split(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[chosen]), labels[chosen]).backward()
        optimizer.step()
    with torch.no_grad():
        print(epoch, (model(rows[1500:]).argmax(1) == labels[1500:]).float().mean().item())
