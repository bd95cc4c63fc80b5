"""Planted: body and head are networks of their own with an optimiser each, and the head's gradients are cleared twice, the body's never."""

import torch
from torch import nn

torch.manual_seed(13)
centres = torch.randn(5, 20)
labels = torch.randint(0, 5, (2000,))
rows = centres[labels] + 0.9 * torch.randn(2000, 20)
body, head = nn.Sequential(nn.Linear(20, 48), nn.ReLU()), nn.Linear(48, 5)
of_body = torch.optim.SGD(body.parameters(), lr=0.05, momentum=0.9)
of_head = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
for epoch in range(4):
    for chosen in torch.randperm(1500).split(50):
        of_head.zero_grad()
        of_head.zero_grad()
        nn.functional.cross_entropy(head(body(rows[chosen])), labels[chosen]).backward()
        of_body.step()
        of_head.step()
    with torch.no_grad():
        print(epoch, (head(body(rows[1500:])).argmax(1) == labels[1500:]).float().mean().item())
