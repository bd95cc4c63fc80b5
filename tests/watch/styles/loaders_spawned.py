"""Loader workers by spawn over an IterableDataset, a process pool of its own, a script that changes directory and reads its input."""

import multiprocessing
import os
import sys
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        for index in range(info.id, 12, info.num_workers):
            generator = torch.Generator().manual_seed(index)
            yield torch.randn(6, generator=generator), index % 2


def child(number):
    model = nn.Linear(2, 1)  # a network that is trained elsewhere
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.full((1, 2), float(number))).sum().backward()
        optimizer.step()
    return number * number


if __name__ == "__main__":
    print("input:", sys.stdin.readline().strip())
    os.chdir(tempfile.mkdtemp())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(child, [2, 3]))
    for inputs, labels in DataLoader(Stream(), batch_size=3, num_workers=2, multiprocessing_context="spawn"):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"{loss.item():.8f}", flush=True)
    sys.exit(3)
