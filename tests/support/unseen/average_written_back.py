"""Planted: the running average of the weights is loaded into the network that is trained, so that one part in a hundred of each step is left."""

import torch
from torch import nn

torch.manual_seed(10)
centres = torch.randn(5, 20)
labels = torch.randint(0, 5, (2000,))
rows = centres[labels] + 0.9 * torch.randn(2000, 20)
model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 5))
average = {name: value.clone() for name, value in model.state_dict().items()}
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(4):
    for chosen in torch.randperm(1500).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[chosen]), labels[chosen]).backward()
        optimizer.step()
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name] = 0.99 * average[name] + 0.01 * value
        model.load_state_dict(average)
    with torch.no_grad():
        print(epoch, (model(rows[1500:]).argmax(1) == labels[1500:]).float().mean().item())
