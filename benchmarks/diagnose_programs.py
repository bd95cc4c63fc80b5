"""The programs of the diagnosis benchmark: small networks, small data, and one plain training loop in which single things can go wrong.

`Settings` says everything about a run; a fault is a change of Settings (diagnose_faults.py). `train` runs the loop as a person would write it, with nothing
of convscope in it; whoever watches does so from outside. `accuracy` is the oracle: clean validation images, evaluation mode.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MNIST = Path(__file__).resolve().parent.parent / "src" / "convscope" / "data" / "mnist"
FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
VALID_IMAGES = 500
SMALL_SIDE = 16  # pixels a side for the two deep networks, so that a run takes seconds on one core
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
    "silu": nn.SiLU,
}


@dataclass(frozen=True)
class Settings:
    """One run. The first block is the base configuration, the second what faults and healthy variants change."""

    arch: str = "plain5"
    data: str = "mnist"
    optimizer: str = "sgd"
    seed: int = 0
    lr: float = 0.0  # 0: the tuned value of arch and optimiser
    batch_size: int = 32
    train_images: int = 2240
    epochs: int = 3
    schedule: str = "constant"  # constant, one_cycle, warmup, cosine, decay:<gamma per step>, zero:<step>, negative:<step>
    activation: str = "relu"
    norm: bool = False  # batch normalisation in the plain networks
    init: str = "default"  # default, kaiming, scale:<factor>, constant:<value>, constant_middle, zero_bias:<value>
    weight_decay: float = 0.0
    dropout: float = 0.0
    clip: float = 0.0
    label_smoothing: float = 0.0
    mixup: bool = False
    accumulate: int = 1
    augment: bool = False

    inputs: str = "normalised"  # normalised, unit, imagenet, bytes, offset:<v>, faint:<factor>, nan:<images>, zero_over_zero
    clear: str = "step"  # step, epoch, never, every:<n>
    held: str = "all"  # all, head, first, no_head, copy
    frozen: str = "none"  # none, backbone, head, half
    pretrained: bool = False
    loss: str = "cross_entropy"
    output: str = "logits"  # what the network's last operation is
    modes: str = "right"
    bn_momentum: float = 0.1
    labels: str = "right"  # right, shuffled:<share>, imbalanced:<ratio>
    order: str = "shuffled"  # shuffled, sorted, chunks, fixed
    leak: float = 0.0
    step: str = "real"  # real, restored, detached, no_backward
    spike: int = 0  # step at which the learning rate is thirty times as high, once
    validate: bool = True
    no_grad: bool = True
    most_steps: int = 0
    class_weights: bool = False

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.lr or TUNED[self.arch, self.optimizer]


TUNED = {  # learning rates that reach the best accuracy of 1, 2, 5 times powers of ten on seed 100 (not used in the benchmark)
    ("plain5", "sgd"): 0.05,
    ("plain5", "adam"): 3e-3,
    ("lenet", "sgd"): 0.03,
    ("lenet", "adam"): 2e-3,
    ("vgg8", "sgd"): 0.01,
    ("vgg8", "adam"): 1e-3,
    ("resnet9", "sgd"): 0.05,
    ("resnet9", "adam"): 2e-3,
}
for _arch in ("plain5", "lenet", "vgg8", "resnet9"):
    TUNED[_arch, "adamw"] = TUNED[_arch, "adam"]
    TUNED[_arch, "rmsprop"] = TUNED[_arch, "adam"] / 2
    TUNED[_arch, "plain_sgd"] = TUNED[_arch, "sgd"] * 4


def argument(text: str) -> float:
    """The number after the colon."""
    return float(text.partition(":")[2])


# ---------------------------------------------------------------- data


@lru_cache(maxsize=4)
def _idx(path: Path, offset: int) -> numpy.ndarray:
    return numpy.frombuffer(gzip.decompress(path.read_bytes()), dtype=numpy.uint8, offset=offset)


def textures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten kinds of stripes (five directions, two widths) in random colours, phases and contrasts, with noise; bytes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    labels = torch.randint(0, 10, (count,), generator=generator)
    angle = (labels % 5) * math.pi / 5 + (draw(count) - 0.5) * 0.25
    width = torch.where(labels < 5, 4.0, 8.0) * (0.9 + 0.2 * draw(count))
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    along = rows * torch.sin(angle)[:, None, None] + columns * torch.cos(angle)[:, None, None]
    wave = torch.sin(2 * math.pi * (along / width[:, None, None] + draw(count)[:, None, None]))
    colour = 0.3 + 0.7 * draw(count, 3)
    images = 0.5 + 0.25 * wave[:, None] * colour[:, :, None, None] + 0.12 * torch.randn(count, 3, 32, 32, generator=generator)
    return (images.clamp(0, 1) * 255).to(torch.uint8), labels


@lru_cache(maxsize=8)
def load(data: str, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and validation images (bytes, NCHW) and labels."""
    if data == "textures":
        images, labels = textures(count + VALID_IMAGES, 1000 + seed)
        return images[VALID_IMAGES:], labels[VALID_IMAGES:], images[:VALID_IMAGES], labels[:VALID_IMAGES]
    folder = MNIST if data == "mnist" else FASHION
    images_all = torch.from_numpy(_idx(folder / "train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28).copy())
    labels_all = torch.from_numpy(_idx(folder / "train-labels-idx1-ubyte.gz", 8).copy()).long()
    chosen = torch.randperm(len(images_all), generator=torch.Generator().manual_seed(seed))[: count + VALID_IMAGES]
    images, labels = images_all[chosen], labels_all[chosen]
    return images[VALID_IMAGES:], labels[VALID_IMAGES:], images[:VALID_IMAGES], labels[:VALID_IMAGES]


def prepare(images: Tensor, s: Settings, mean: float, std: float) -> Tensor:
    """Bytes to what the network gets."""
    unit = images.float() / 255
    kind = s.inputs.partition(":")[0]
    if kind == "unit":
        return unit
    if kind == "imagenet":
        return (unit - 0.45) / 0.225
    if kind == "bytes":
        return images.float()
    if kind == "faint":
        return unit * argument(s.inputs)
    if kind == "zero_over_zero":
        return (unit - unit.mean((1, 2, 3), keepdim=True)) / unit.std((1, 2, 3), keepdim=True)
    normal = (unit - mean) / std
    return normal + argument(s.inputs) if kind == "offset" else normal


def spoil_labels(labels: Tensor, s: Settings, generator: torch.Generator) -> Tensor:
    """Labels as the program sees them."""
    if not s.labels.startswith("shuffled"):
        return labels
    wrong = torch.rand(len(labels), generator=generator) < argument(s.labels)
    return torch.where(wrong, labels[torch.randperm(len(labels), generator=generator)], labels)


# ---------------------------------------------------------------- networks


def _block(s: Settings, before: int, after: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(after, momentum=s.bn_momentum)] if s.norm else []
    return [nn.Conv2d(before, after, kernel, stride, kernel // 2), *norm, ACTIVATIONS[s.activation]()]


class Residual(nn.Module):
    """Two convolutions with batch norm and a skip."""

    def __init__(self, channels: int, s: Settings) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels, momentum=s.bn_momentum)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels, momentum=s.bn_momentum)
        self.act = ACTIVATIONS[s.activation]()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))


class LeNet(nn.Module):
    """LeNet in the functional style of many tutorials."""

    def __init__(self, channels: int, size: int, outputs: int, s: Settings) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * ((size // 2 - 4) // 2) ** 2, 120)
        self.fc2, self.fc3 = nn.Linear(120, 84), nn.Linear(84, outputs)
        self.drop = nn.Dropout(s.dropout)
        functions = {
            "relu": F.relu,
            "gelu": F.gelu,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "none": lambda x: x,
            "leaky": F.leaky_relu,
            "silu": F.silu,
        }
        self.act = functions[s.activation]

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.act(self.conv1(x)), 2)
        x = F.max_pool2d(self.act(self.conv2(x)), 2)
        x = self.act(self.fc1(torch.flatten(x, 1)))
        return self.fc3(self.drop(self.act(self.fc2(x))))


def network(s: Settings, channels: int, size: int) -> nn.Module:
    """The network of a run, freshly drawn."""
    outputs = 1 if s.loss in ("mse_index", "mse_broadcast") else 10
    if s.arch == "lenet":
        model: nn.Module = LeNet(channels, size, outputs, s)
    elif s.arch == "plain5":
        layers: list[nn.Module] = []
        for before, after in zip((channels, 8, 16, 32), (8, 16, 32, 64), strict=True):
            layers += _block(s, before, after, 2, 5 if before == channels else 3)
        layers += [nn.Dropout(s.dropout)] if s.dropout else []
        model = nn.Sequential(*layers, nn.Conv2d(64, outputs, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    elif s.arch == "vgg8":
        layers = []
        widths = (channels, 8, 8, 12, 12, 16, 16, 24, 24)
        for at, (before, after) in enumerate(itertools.pairwise(widths)):
            layers += _block(s, before, after) + ([nn.MaxPool2d(2)] if at % 2 else [])
        drop = [nn.Dropout(s.dropout)] if s.dropout else []
        model = nn.Sequential(*layers, nn.Flatten(), *drop, nn.Linear(24 * (size // 16) ** 2, outputs))
    else:
        bn = dataclasses.replace(s, norm=True)
        body = [*_block(bn, channels, 8), *_block(bn, 8, 12), nn.MaxPool2d(2), Residual(12, s)]
        body += [*_block(bn, 12, 16), nn.MaxPool2d(2), *_block(bn, 16, 32), nn.MaxPool2d(2), Residual(32, s)]
        drop = [nn.Dropout(s.dropout)] if s.dropout else []
        model = nn.Sequential(*body, nn.AdaptiveMaxPool2d(1), nn.Flatten(), *drop, nn.Linear(32, outputs))
    initialise(model, s)
    return Head(model, s.output) if s.output != "logits" else model


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Convolutions and linear layers in order."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def initialise(model: nn.Module, s: Settings) -> None:
    """Draw or set the weights."""
    kind, layers = s.init.partition(":")[0], layers_of(model)
    if kind == "kaiming" or (kind == "default" and s.arch == "vgg8" and not s.norm):
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias) if layer.bias is not None else None
    with torch.no_grad():
        for at, layer in enumerate(layers):
            if kind == "scale":
                layer.weight.mul_(argument(s.init))
            elif kind == "constant" or (kind == "constant_middle" and at == len(layers) // 2):
                layer.weight.fill_(argument(s.init))
            elif kind == "bias" and at < len(layers) - 1 and layer.bias is not None:
                layer.bias.fill_(argument(s.init))


class Head(nn.Module):
    """A network with a last operation that does not belong there."""

    def __init__(self, body: nn.Module, output: str) -> None:
        super().__init__()
        self.body, self.output = body, output

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return {
            "softmax": lambda: x.softmax(1),
            "softmax0": lambda: x.softmax(0),
            "log_softmax0": lambda: x.log_softmax(0),
            "log_softmax": lambda: x.log_softmax(1),
            "sigmoid": lambda: x.sigmoid(),
            "relu": lambda: x.relu(),
        }[self.output]()


# ---------------------------------------------------------------- the loop


def loss_of(s: Settings, output: Tensor, target: Tensor) -> Tensor:
    """The training loss."""
    if s.loss == "cross_entropy":
        weight = balanced_weights(s, target) if s.class_weights else None
        return F.cross_entropy(output, target, weight, label_smoothing=s.label_smoothing)
    if s.loss == "nll":
        return F.nll_loss(output, target)
    if s.loss == "sum":
        return F.cross_entropy(output, target, reduction="sum")
    if s.loss == "module":
        return nn.CrossEntropyLoss()(output, target)
    if s.loss == "bce":
        return F.binary_cross_entropy_with_logits(output, F.one_hot(target, 10).float())
    if s.loss == "mse":
        return F.mse_loss(output, F.one_hot(target, 10).float())
    if s.loss == "mse_index":
        return F.mse_loss(output, target.float()[:, None])
    return F.mse_loss(output, target.float())


_SEEN: dict[Settings, Tensor] = {}


def balanced_weights(s: Settings, target: Tensor) -> Tensor:
    """Weights inversely proportional to how often each class has occurred so far, with mean 1 over the images."""
    counts = _SEEN.setdefault(s, torch.ones(10))
    counts += torch.bincount(target, minlength=10)
    return counts.sum() / (10 * counts)


def rate_at(s: Settings, step: int, total: int) -> float:
    """The learning rate of a step."""
    kind, top = s.schedule.partition(":")[0], s.rate
    if s.spike and step == s.spike:
        return 30 * top
    if kind == "one_cycle":
        rise = 0.25 * total
        share = step / rise if step < rise else (step - rise) / (total - rise)
        low, high = (top / 25, top) if step < rise else (top / 1e5, top)
        wave = (1 - math.cos(math.pi * share)) / 2 if step < rise else (1 + math.cos(math.pi * share)) / 2
        return low + (high - low) * wave
    if kind == "warmup":
        return top * min(1.0, step / (0.2 * total))
    if kind == "cosine":
        return top * (1 + math.cos(math.pi * step / total)) / 2
    if kind == "decay":
        return top * argument(s.schedule) ** step
    if kind == "zero":
        return 0.0 if step >= argument(s.schedule) else top
    if kind == "negative":
        return -top / 10 if step >= argument(s.schedule) else top
    return top


def make_optimizer(s: Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a run."""
    if s.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=s.rate, weight_decay=s.weight_decay)
    if s.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=s.rate, weight_decay=s.weight_decay)
    if s.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=s.rate, weight_decay=s.weight_decay)
    momentum = 0.0 if s.optimizer == "plain_sgd" else 0.9
    return torch.optim.SGD(parameters, lr=s.rate, momentum=momentum, weight_decay=s.weight_decay)


def held_parameters(s: Settings, model: nn.Module) -> list[nn.Parameter]:
    """The parameters that the optimiser is given."""
    layers = layers_of(model)
    head = list(layers[-1].parameters())
    if s.held == "head":
        return head
    if s.held == "first":
        return list(layers[0].parameters())
    if s.held == "no_head":
        return [p for p in model.parameters() if not any(p is h for h in head)]
    if s.held == "copy":
        import copy

        return list(copy.deepcopy(model).parameters())
    return [p for p in model.parameters() if p.requires_grad]


def freeze(s: Settings, model: nn.Module) -> None:
    """Set requires_grad as the run says."""
    layers = layers_of(model)
    chosen = {"none": [], "backbone": layers[:-1], "half": layers[: max(2, len(layers) // 2)], "head": layers[1:]}[s.frozen]
    for layer in chosen:
        for parameter in layer.parameters():
            parameter.requires_grad_(False)


def order_of(s: Settings, labels: Tensor, epoch: int) -> Tensor:
    """The order of the training images in an epoch."""
    generator = torch.Generator().manual_seed(s.seed * 1000 + (0 if s.order == "fixed" else epoch))
    shuffled = torch.randperm(len(labels), generator=generator)
    if s.order == "sorted":
        return labels.argsort(stable=True)
    if s.order == "chunks":  # sorted within chunks of 800 images, as when shards are read one by one
        return torch.cat([part[labels[part].argsort(stable=True)] for part in shuffled.split(800)])
    return shuffled


@dataclass
class Program:
    """A run, ready to start: images, labels, model."""

    settings: Settings
    model: nn.Module
    train_x: Tensor
    train_y: Tensor
    valid_x: Tensor
    valid_y: Tensor
    clean_x: Tensor
    clean_y: Tensor


def build(s: Settings) -> Program:
    """Load data and draw the network of a run; everything follows from the settings."""
    torch.manual_seed(s.seed)
    generator = torch.Generator().manual_seed(s.seed + 77)
    train_x, train_y, valid_x, valid_y = load(s.data, max(s.train_images, 2240), s.seed)
    train_x, train_y = train_x[: s.train_images], train_y[: s.train_images]
    if s.arch in ("vgg8", "resnet9"):
        train_x, valid_x = (F.interpolate(x.float(), SMALL_SIDE, mode="area").to(torch.uint8) for x in (train_x, valid_x))
    if s.labels.startswith("imbalanced"):
        keep = (train_y == 0) | (torch.rand(len(train_y), generator=generator) < 1 / argument(s.labels))
        train_x, train_y = train_x[keep], train_y[keep]
    unit = train_x.float() / 255
    mean, std = float(unit.mean()), float(unit.std())
    clean_x = prepare(valid_x, s, mean, std)
    inputs = prepare(train_x, s, mean, std)
    if s.inputs.startswith("nan"):
        inputs[torch.randperm(len(inputs), generator=generator)[: int(argument(s.inputs))], :, 3, 3] = math.nan
    if s.inputs == "zero_over_zero":
        blank = torch.randperm(len(inputs), generator=generator)[:2]
        inputs[blank] = prepare(torch.zeros_like(train_x[blank]), s, mean, std)
    targets = spoil_labels(train_y, s, generator)
    valid_in, valid_target = clean_x, valid_y
    if s.leak:
        count = int(s.leak * len(valid_in))
        valid_in = torch.cat([inputs[:count], valid_in[count:]])
        valid_target = torch.cat([targets[:count], valid_y[count:]])
    model = network(s, inputs.shape[1], inputs.shape[2])
    program = Program(s, model, inputs, targets, valid_in, valid_target, clean_x, valid_y)
    if s.pretrained:
        _pretrain(program)
    freeze(s, model)
    return program


def _pretrain(program: Program) -> None:
    plain = dataclasses.replace(
        program.settings, pretrained=False, frozen="none", held="all", schedule="one_cycle", epochs=3, validate=False
    )
    torch.manual_seed(plain.seed)
    train(dataclasses.replace(program, settings=plain))
    nn.init.kaiming_uniform_(layers_of(program.model)[-1].weight, a=math.sqrt(5))
    program.model.zero_grad()
    program.model.train()


def batches(program: Program, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch."""
    s = program.settings
    order = order_of(s, program.train_y, epoch)
    for at in range(0, len(order) - s.batch_size + 1, s.batch_size):
        chosen = order[at : at + s.batch_size]
        images = program.train_x[chosen]
        yield (_shifted(images) if s.augment else images), program.train_y[chosen]


def _shifted(images: Tensor) -> Tensor:
    down, right = (int(v) for v in torch.randint(-2, 3, (2,)))
    return images.roll((down, right), (2, 3))


def train(program: Program) -> None:
    """The loop."""
    s, model = program.settings, program.model
    optimizer = make_optimizer(s, held_parameters(s, model))
    total = s.epochs * (len(program.train_y) // s.batch_size)
    step = 0
    if s.modes == "never_train":
        model.eval()
    for epoch in range(s.epochs):
        if s.modes in ("right", "valid_in_train"):
            model.train()
        if s.clear == "epoch":
            optimizer.zero_grad()
        for images, labels in batches(program, epoch):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(s, step // s.accumulate, total // s.accumulate)
            if step % s.accumulate == 0 and (s.clear == "step" or (s.clear.startswith("every") and step % int(argument(s.clear)) == 0)):
                optimizer.zero_grad()
            _forward_backward(s, model, images, labels)
            if s.clip:
                nn.utils.clip_grad_norm_(model.parameters(), s.clip)
            if (step + 1) % s.accumulate == 0:
                _step(s, model, optimizer)
            step += 1
            if s.most_steps and step >= s.most_steps:
                return
        if s.validate:
            validate(program)


def _forward_backward(s: Settings, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    if s.mixup:
        share, other = float(torch.rand(())), torch.randperm(len(labels))
        output = model(share * images + (1 - share) * images[other])
        loss = share * loss_of(s, output, labels) + (1 - share) * loss_of(s, output, labels[other])
    else:
        output = model(images)
        loss = loss_of(s, output, labels)
    if s.step != "no_backward":
        (loss / s.accumulate).backward()
    return loss.detach()


def _step(s: Settings, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if s.step == "restored":  # an averaging of weights gone wrong: the old ones are put back
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), before, strict=True):
                parameter.copy_(old)
    else:
        optimizer.step()


def validate(program: Program) -> tuple[float, float]:
    """Validation as the program does it: (loss, accuracy)."""
    s, model = program.settings, program.model
    if s.modes != "valid_in_train":
        model.eval()
    right, total_loss = 0, 0.0
    with torch.set_grad_enabled(not s.no_grad):
        for images, labels in zip(program.valid_x.split(250), program.valid_y.split(250), strict=True):
            output = model(images)
            total_loss += float(loss_of(s, output, labels).detach()) * len(labels)
            if output.shape[1] > 1:
                right += int((output.argmax(1) == labels).sum())
    return total_loss / len(program.valid_y), right / len(program.valid_y)


def accuracy(program: Program) -> float:
    """The oracle: share of clean validation images answered rightly, evaluation mode; a single output is rounded to a class."""
    model = program.model.eval()
    with torch.no_grad():
        output = torch.cat([model(part) for part in program.clean_x.split(250)])
    if not bool(torch.isfinite(output).all()):
        return 0.0
    said = output.argmax(1) if output.shape[1] > 1 else output[:, 0].round().long()
    return float((said == program.clean_y).float().mean())
