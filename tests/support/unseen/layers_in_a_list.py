"""Planted: the hidden layers are kept in a plain list, which parameters() does not see, so the optimiser never gets them."""

import torch
from torch import nn


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 24)
        self.hidden = [nn.Linear(24, 24) for _ in range(4)]
        self.last = nn.Linear(24, 3)

    def forward(self, points):
        points = torch.relu(self.first(points))
        for layer in self.hidden:
            points = torch.relu(layer(points))
        return self.last(points)


torch.manual_seed(8)
radius, labels = torch.rand(1200), torch.randint(0, 3, (1200,))
angle = 4 * radius + 2.0944 * labels
points = 2 * torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
model = Stack()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(240):
    chosen = torch.randint(0, 1200, (50,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(points[chosen]), labels[chosen])
    loss.backward()
    optimizer.step()
print(loss.item())
