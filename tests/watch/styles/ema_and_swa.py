"""An exponential average of the weights by deepcopy, then stochastic weight averaging with update_bn."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
ema = copy.deepcopy(model).requires_grad_(False)
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
swa_model, swa_scheduler = AveragedModel(model), SWALR(opt, swa_lr=0.02)
batches = [(torch.randn(6, 1, 8, 8), torch.randint(0, 2, (6,))) for _ in range(3)]
for epoch in range(3):
    for x, y in batches:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        with torch.no_grad():
            for kept, now in zip(ema.parameters(), model.parameters()):
                kept.mul_(0.9).add_(now, alpha=0.1)
        ema.train()
        ema(x)
    if epoch >= 1:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    print(epoch, f"{loss.item():.8f}")
update_bn([x for x, _ in batches], swa_model)
swa_model.eval()
print(f"{swa_model(batches[0][0]).sum().item():.6f} {ema(batches[0][0]).sum().item():.6f}")
