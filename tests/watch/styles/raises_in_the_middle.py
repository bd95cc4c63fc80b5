"""A loop that fails in its third step, with a finally that prints and a handler of its own for exits."""

import atexit

import torch
from torch import nn

atexit.register(print, "goodbye")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
try:
    for step in range(9):
        loss = nn.functional.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 2, (6,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, f"{loss.item():.8f}")
        if step == 2:
            raise RuntimeError("the disk is full")
finally:
    print("cleaning up")
