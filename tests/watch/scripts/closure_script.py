"""An optimiser that calls the loss itself, on a regression."""

import torch

torch.manual_seed(0)
x = torch.linspace(-1, 1, 50)[:, None]
y = (3 * x).sin()
model = torch.nn.Sequential(torch.nn.Linear(1, 20), torch.nn.Tanh(), torch.nn.Linear(20, 1))
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)


def closure():
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    return loss


for step in range(4):
    print(step, optimizer.step(closure).item())
