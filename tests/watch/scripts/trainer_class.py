"""A trainer class with hooks of its own, a DataLoader with a worker process, and an exit code."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, loader):
        self.model, self.loader = model, loader
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
        self.optimizer = self.configure_optimizers()
        self.step = 0

    def configure_optimizers(self):
        decay, plain = [], []
        for parameter in self.model.parameters():
            (decay if parameter.ndim > 1 else plain).append(parameter)
        return torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=0.01)

    def training_step(self, batch):
        inputs, labels = batch
        return self.criterion(self.model(inputs), labels)

    def fit(self, epochs):
        for _ in range(epochs):
            for batch in self.loader:
                loss = self.training_step(batch)
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                self.step += 1
                print(self.step, f"{loss.item():.8f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(48, 3, 8, 8), torch.randint(0, 4, (48,)))
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    Trainer(net, DataLoader(data, batch_size=16, shuffle=True, num_workers=1)).fit(2)
    sys.exit(5)
