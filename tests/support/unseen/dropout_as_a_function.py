"""Planted: F.dropout is called without training=self.training, so model.eval() does not switch it off."""

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 5)

    def forward(self, rows):
        hidden = F.dropout(F.relu(self.first(rows)), 0.5)
        return self.last(F.dropout(F.relu(self.second(hidden)), 0.5))


torch.manual_seed(8)
centres = torch.randn(5, 20)
labels = torch.randint(0, 5, (2000,))
rows = centres[labels] + 1.2 * torch.randn(2000, 20)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(5):
    model.train()
    for chosen in torch.randperm(1500).split(50):
        optimizer.zero_grad()
        F.cross_entropy(model(rows[chosen]), labels[chosen]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(epoch, (model(rows[1500:]).argmax(1) == labels[1500:]).float().mean().item())
