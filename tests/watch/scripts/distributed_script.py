"""Starts alone or by torchrun. All numbers are short binary fractions, so that no order of adding them up changes a bit."""

import os

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

STEPS, BATCH = 2, 16


def main():
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        distributed.init_process_group("gloo")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 8).round() / 4)
    net = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    share = BATCH // world
    for _ in range(STEPS):
        rows, targets = torch.randint(-1, 2, (BATCH, 6)).float(), torch.randint(-1, 2, (BATCH, 4)).float()
        mine = slice(rank * share, (rank + 1) * share)
        loss = nn.functional.mse_loss(net(rows[mine]), targets[mine])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if rank == 0:
        print("trained")
    if world > 1:
        distributed.destroy_process_group()


main()
