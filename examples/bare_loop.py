"""A training loop without convscope; examples/watched_loop.py is the same loop, watched. Compare the two line by line."""

import torch
from torch import nn
from torch.nn import functional as F


def main(steps: int = 60) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 7 * 7, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    for step in range(steps):
        images, labels = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step}, loss {loss.item():.9f}")


if __name__ == "__main__":
    main()
