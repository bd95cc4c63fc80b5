"""A siamese net called twice a step, a list of heads outside any module, an optimiser over both, weights frozen halfway, eval with gradients."""

import itertools

import torch
from torch import nn


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3, padding=1)
        self.rnn = nn.GRU(4, 6, batch_first=True)

    def forward(self, x):
        out, last = self.rnn(torch.relu(self.conv(x)).transpose(1, 2))
        return {"sequence": out, "last": last[-1]}


torch.manual_seed(0)
tower = Tower()
heads = [nn.Linear(6, 3), nn.Linear(6, 3)]
optimizer = torch.optim.Adam(itertools.chain(tower.parameters(), *(head.parameters() for head in heads)), lr=0.01)
for step in range(4):
    a, b = torch.randn(5, 2, 7), torch.randn(5, 2, 7)
    one, two = tower(a)["last"], tower(b)["last"]
    distance = torch.nn.functional.pairwise_distance(heads[0](one), heads[1](two))
    loss = nn.functional.margin_ranking_loss(distance, torch.zeros(5), torch.ones(5), margin=1.0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 1:
        tower.conv.requires_grad_(False)
    tower.eval()
    print(step, f"{loss.item():.7f}", f"{tower(a)['sequence'].mean().item():.6f}")
    tower.train()
