"""Planted: dropout is always on in a network that is evaluated with the very nodes of the graph that it is trained on."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(2)
kinds = torch.randint(0, 4, (400,))
linked = torch.rand(400, 400) < torch.where(kinds[:, None] == kinds, 0.03, 0.01)
links = (linked | linked.T).float() + torch.eye(400)
links = links / links.sum(1, keepdim=True)
nodes = torch.randn(4, 24)[kinds] * 0.6 + torch.randn(400, 24)
known = torch.rand(400) < 0.5


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(24, 32), nn.Linear(32, 4)

    def forward(self, values):
        hidden = F.dropout(F.relu(links @ self.first(F.dropout(values, 0.5, True))), 0.5, True)
        return links @ self.last(hidden)


model = Graph()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(200):
    model.train()
    loss = F.cross_entropy(model(nodes)[known], kinds[known])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 10 == 9:
        model.eval()
        with torch.no_grad():
            right = model(nodes).argmax(1) == kinds
        print(epoch, right[~known].float().mean().item())
