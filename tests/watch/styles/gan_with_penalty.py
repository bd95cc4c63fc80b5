"""A GAN with a gradient penalty (a gradient of a gradient), two optimisers, detach, requires_grad switched off and on."""

import torch
from torch import autograd, nn

torch.manual_seed(3)
netG = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 6), nn.Tanh())
netD = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 1))
optimizerD = torch.optim.RMSprop(netD.parameters(), lr=5e-3)
optimizerG = torch.optim.RMSprop(netG.parameters(), lr=5e-3)
for iteration in range(4):
    for p in netD.parameters():
        p.requires_grad_(True)
    for _ in range(2):
        real, fake = torch.rand(8, 6), netG(torch.randn(8, 4)).detach()
        mix = (real + torch.rand(8, 1) * (fake - real)).requires_grad_(True)
        (slope,) = autograd.grad(netD(mix).sum(), mix, create_graph=True)
        loss_D = netD(fake).mean() - netD(real).mean() + 10 * ((slope.norm(2, dim=1) - 1) ** 2).mean()
        optimizerD.zero_grad()
        loss_D.backward()
        optimizerD.step()
    for p in netD.parameters():
        p.requires_grad_(False)
    loss_G = -netD(netG(torch.randn(8, 4))).mean()
    optimizerG.zero_grad()
    loss_G.backward()
    optimizerG.step()
    print(f"[{iteration}] Loss_D: {loss_D.item():.6f} Loss_G: {loss_G.item():.6f}")
