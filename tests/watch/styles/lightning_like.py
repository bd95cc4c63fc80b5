"""In the manner of Lightning: a module that holds loss and optimiser, driven by a trainer that calls training_step and closures."""

import torch
from torch import nn


class LightningModule(nn.Module):
    def log(self, name, value):
        print(f"{name}={float(value):.8f}")


class LitClassifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 8), nn.Tanh())
        self.head = nn.Linear(8, 3)
        self.loss_fn = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.head(self.encoder(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss_fn(self(x), y)
        self.log("train_loss", loss.detach())
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", self.loss_fn(self(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)}


class Trainer:
    def __init__(self, max_epochs):
        self.max_epochs = max_epochs

    def fit(self, module, batches):
        made = module.configure_optimizers()
        optimizer, scheduler = made["optimizer"], made["lr_scheduler"]
        module.eval()
        with torch.no_grad():  # the sanity check
            module.validation_step(batches[0], 0)
        for _ in range(self.max_epochs):
            module.train()
            torch.set_grad_enabled(True)
            for index, batch in enumerate(batches):

                def closure():
                    optimizer.zero_grad()
                    loss = module.training_step(batch, index)
                    loss.backward()
                    return loss

                optimizer.step(closure)
            scheduler.step()
            module.eval()
            with torch.inference_mode():
                module.validation_step(batches[0], 0)


torch.manual_seed(0)
Trainer(max_epochs=2).fit(LitClassifier(), [(torch.randn(10, 12), torch.randint(0, 3, (10,))) for _ in range(3)])
