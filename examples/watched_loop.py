"""The loop of examples/bare_loop.py, watched: four more lines, and the losses that it prints are the same to the last digit."""

import torch
from torch import nn
from torch.nn import functional as F

import convscope as cs


def main(steps: int = 60) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 7 * 7, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    with cs.Watcher(model) as watch:
        for step in range(steps):
            images, labels = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 10 == 9:
                print(f"step {step}, loss {loss.item():.9f}")
    watch.color_dim(-2).figure.savefig("layer.png")
    print(f"verdict: {watch.diagnose().verdict}")


if __name__ == "__main__":
    main()
