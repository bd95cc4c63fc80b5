"""Planted: a student's log_softmax runs over the images of the batch, in a divergence from its teacher's answers."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(13)
centres = torch.randn(6, 16)
labels = torch.randint(0, 6, (1800,))
rows = centres[labels] + 0.8 * torch.randn(1800, 16)
answers = F.softmax(-torch.cdist(rows, centres), 1)
student = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 6))
optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
for _ in range(4):
    for chosen in torch.randperm(1800).split(36):
        optimizer.zero_grad()
        F.kl_div(F.log_softmax(student(rows[chosen]), 0), answers[chosen], reduction="batchmean").backward()
        optimizer.step()
