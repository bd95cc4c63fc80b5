"""Planted: the rows of a table were repeated before the random split, so most validation rows are training rows as well."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(21)
centres = torch.randn(4, 16)
labels = torch.randint(0, 4, (400,))
rows = centres[labels] + 1.2 * torch.randn(400, 16)
everything = TensorDataset(rows.repeat(4, 1), labels.repeat(4))
training, validation = random_split(everything, [1280, 320])
model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(6):
    model.train()
    for inputs, wanted in DataLoader(training, 32, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), wanted).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum((model(inputs).argmax(1) == wanted).sum().item() for inputs, wanted in DataLoader(validation, 64))
    print(epoch, right / 320)
