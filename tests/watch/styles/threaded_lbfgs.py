"""A model trained in a thread by LBFGS, whose closure runs several times a step; ends by os._exit-like sys.exit with a message."""

import sys
import threading

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 10), nn.Softplus(), nn.Linear(10, 1))
x = torch.randn(30, 3)
y = x.sin().sum(1, keepdim=True)
history = []


def work():
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - y).pow(2).mean()
        loss.backward()
        return loss

    for _ in range(5):
        history.append(float(optimizer.step(closure)))


thread = threading.Thread(target=work)
thread.start()
thread.join()
print([f"{value:.6f}" for value in history])
sys.exit("that was all")
