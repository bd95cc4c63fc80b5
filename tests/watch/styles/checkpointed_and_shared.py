"""Gradient checkpointing, a block that is used twice, another that two parents share, and weights by functional_call."""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.left = nn.ModuleDict({"inner": self.shared, "out": nn.Linear(8, 4)})
        self.right = nn.ModuleDict({"inner": self.shared, "out": nn.Linear(8, 4)})
        self.deep = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), nn.GELU()) for _ in range(3)])

    def forward(self, x, keep_little):
        left = self.left["out"](self.left["inner"](x))
        right = self.right["out"](self.right["inner"](self.shared(x)))
        hidden = left + right
        if not keep_little:
            return functional_call(self.deep, {name: p * 1.0 for name, p in self.deep.named_parameters()}, (hidden,))
        for block in self.deep:
            hidden = checkpoint(block, hidden, use_reentrant=False)
        return hidden


torch.manual_seed(0)
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(4):
    x, y = torch.randn(5, 8), torch.randint(0, 4, (5,))
    loss = nn.functional.cross_entropy(net(x, keep_little=step % 2 == 0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, f"{loss.item():.8f}")
