"""In the manner of transformers: a Trainer with TrainingArguments, compute_loss over dicts, a model that returns its loss, a lambda schedule."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class TrainingArguments:
    learning_rate: float = 5e-3
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 2
    max_steps: int = 6
    max_grad_norm: float = 1.0
    seed: int = 42


@dataclass
class SequenceClassifierOutput:
    loss: torch.Tensor
    logits: torch.Tensor


class TinyBert(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False)
        self.classifier = nn.Linear(16, 2)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        hidden = self.encoder(self.embeddings(input_ids), src_key_padding_mask=attention_mask == 0)
        logits = self.classifier(hidden.mean(1))
        return SequenceClassifierOutput(nn.functional.cross_entropy(logits, labels), logits)


class Trainer:
    def __init__(self, model, args, train_dataset, data_collator):
        self.model, self.args, self.train_dataset, self.data_collator = model, args, train_dataset, data_collator
        self.state = {"global_step": 0, "log_history": []}

    def create_optimizer_and_scheduler(self):
        decay = [p for n, p in self.model.named_parameters() if "bias" not in n]
        rest = [p for n, p in self.model.named_parameters() if "bias" in n]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: max(0.0, 1 - step / self.args.max_steps))

    def compute_loss(self, model, inputs):
        return model(**inputs).loss

    def training_step(self, model, inputs):
        model.train()
        loss = self.compute_loss(model, inputs) / self.args.gradient_accumulation_steps
        loss.backward()
        return loss.detach()

    def train(self):
        torch.manual_seed(self.args.seed)
        self.create_optimizer_and_scheduler()
        size, at = self.args.per_device_train_batch_size, 0
        while self.state["global_step"] < self.args.max_steps:
            total = torch.tensor(0.0)
            for _ in range(self.args.gradient_accumulation_steps):
                batch = self.data_collator([self.train_dataset[(at + i) % len(self.train_dataset)] for i in range(size)])
                at += size
                total += self.training_step(self.model, batch)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
            self.optimizer.step()
            self.lr_scheduler.step()
            self.model.zero_grad()
            self.state["global_step"] += 1
            print({"loss": round(total.item(), 6), "learning_rate": self.lr_scheduler.get_last_lr()[0], "step": self.state["global_step"]})


def collate(rows):
    ids = torch.tensor([row["ids"] for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (ids > 2).long().index_fill(1, torch.tensor([0]), 1),
        "labels": torch.tensor([r["label"] for r in rows]),
    }


torch.manual_seed(0)
dataset = [{"ids": torch.randint(0, 50, (7,)).tolist(), "label": i % 2} for i in range(20)]
Trainer(model=TinyBert(), args=TrainingArguments(), train_dataset=dataset, data_collator=collate).train()
