"""Two networks that are trained against each other."""

import torch
from torch import nn


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 36), nn.Tanh())

    def forward(self, z):
        return self.main(z).view(-1, 1, 6, 6)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def forward(self, x):
        return self.main(x).squeeze(1)


torch.manual_seed(0)
G, D = Generator(), Discriminator()
opt_g, opt_d = torch.optim.Adam(G.parameters(), lr=2e-3), torch.optim.Adam(D.parameters(), lr=2e-3)
criterion = nn.BCEWithLogitsLoss()
for step in range(4):
    real = torch.randn(10, 1, 6, 6)
    fake = G(torch.randn(10, 4))
    opt_d.zero_grad()
    loss_d = criterion(D(real), torch.ones(10)) + criterion(D(fake.detach()), torch.zeros(10))
    loss_d.backward()
    opt_d.step()
    opt_g.zero_grad()
    loss_g = criterion(D(fake), torch.ones(10))
    loss_g.backward()
    opt_g.step()
    print(step, loss_d.item(), loss_g.item())
