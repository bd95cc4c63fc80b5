"""A bare loop under torchrun, watched; rank 1 fails at step 5 while rank 0 goes on by itself. Prints what rank 0's watcher saw."""

import json
import sys
import time

import torch
from torch import distributed, nn

import convscope as cs

distributed.init_process_group("gloo")
rank = distributed.get_rank()
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch = cs.Watcher(model)
distributed.barrier()
try:
    with watch:
        for step in range(9):
            if step == 5 and rank == 1:
                raise ValueError("rank 1 fails")
            optimizer.zero_grad()
            nn.functional.mse_loss(model(torch.randn(8, 4)), torch.zeros(8, 2)).backward()
            optimizer.step()
        ended = time.monotonic()
except ValueError:
    pass
if rank == 0:
    counts = [[record.first_step, record.count, record.records] for record in watch.layers()["Linear"]]
    print(json.dumps({"counts": counts, "closing_s": time.monotonic() - ended, "notes": watch.notes}))
watch.save(sys.argv[1])
