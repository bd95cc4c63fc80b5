"""Planted: every tenth step the averaged weights are evaluated in the network that is trained, and stay there."""

import torch
from torch import nn

torch.manual_seed(9)
kinds = torch.randint(0, 6, (3000,))
rows = torch.randn(6, 24)[kinds] + 1.3 * torch.randn(3000, 24)
model = nn.Sequential(nn.Linear(24, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 6))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
average = {name: value.clone() for name, value in model.state_dict().items()}
for step in range(400):
    chosen = torch.randint(0, 2400, (40,))
    loss = nn.functional.cross_entropy(model(rows[chosen]), kinds[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        average[name].lerp_(value, 0.01)
    if step % 10 == 9:
        model.load_state_dict(average)
        with torch.no_grad():
            right = (model(rows[2400:]).argmax(1) == kinds[2400:]).float().mean().item()
        print(step, right)
