"""Gradient accumulation, written without functions; two microbatches to a step."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(3)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))
opt = torch.optim.Adam(model.parameters(), 1e-2)
x, y = torch.randn(8, 10, 1, 8, 8), torch.randint(0, 3, (8, 10))
opt.zero_grad()
for i in range(8):
    loss = cross_entropy(model(x[i]), y[i]) / 2
    loss.backward()
    if i % 2 == 1:
        opt.step()
        opt.zero_grad()
    print(i, repr(loss.item()))
