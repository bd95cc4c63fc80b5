"""Planted: the labels were shuffled; the loss is written out, so that no loss function is ever called."""

import torch
from torch import nn

torch.manual_seed(4)
kinds = torch.randint(0, 5, (2500,))
rows = torch.randn(5, 20)[kinds] + torch.randn(2500, 20)
labels = torch.cat([kinds[:2000][torch.randperm(2000)], kinds[2000:]])
model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 5))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(12):
    for chosen in torch.randperm(2000).split(50):
        likelihoods = torch.log_softmax(model(rows[chosen]), dim=1)
        loss = -likelihoods.gather(1, labels[chosen, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        print(epoch, (model(rows[2000:]).argmax(1) == labels[2000:]).float().mean().item())
