"""Mixed precision on the CPU, a loss of one's own, and in-place activations in residual blocks."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.norm(self.conv(x)) + x)


def focal_loss(logits, labels, gamma=2.0):
    logp = logits.float().log_softmax(1).gather(1, labels[:, None])
    return (-((1 - logp.exp()) ** gamma) * logp).mean()


def run():
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
    for _ in range(5):
        images, labels = torch.randn(12, 1, 10, 10), torch.randint(0, 3, (12,))
        optimizer.zero_grad()
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            loss = focal_loss(net(images), labels)
        loss.backward()
        optimizer.step()
        print(loss.item())


run()
