"""Ten small networks of the kinds that people build, for the tests of tracing and receptive fields."""

import torch
import torch.nn.functional as F
from torch import nn

from convscope.nn import simple_cnn, small_resnet


class Depthwise(nn.Module):
    """Depthwise separable convolutions with a residual connection and hard activations, as in MobileNet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.point = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.point(self.depth(x))
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Each layer sees all before it, joined along the channels, as in DenseNet."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 3, 3, padding=1)
        self.third = nn.Conv2d(7, 5, 3, stride=2)
        self.head = nn.Linear(5 * 9, 3)

    def forward(self, x):
        one = F.relu(self.first(x))
        two = torch.tanh(self.second(one))
        three = F.leaky_relu(self.third(torch.cat([one, two], 1)), 0.2)
        return self.head(F.adaptive_avg_pool2d(three, 3).flatten(1))


class Branching(nn.Module):
    """Branches of different kernels and dilations beside a pooling, as in Inception, then a gate, as in squeeze-and-excitation."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 2, 1)
        self.b = nn.Conv2d(3, 2, 3, padding=2, dilation=2)
        self.c = nn.Conv2d(3, 2, (1, 5), padding=(0, 2))
        self.norm = nn.GroupNorm(3, 9)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(9, 9, 1), nn.Sigmoid())

    def forward(self, x):
        x = self.norm(torch.cat([self.a(x), self.b(x), self.c(x), F.max_pool2d(x, 3, 1, 1)], 1))
        return F.gelu(x * self.gate(x))


class UpAndDown(nn.Module):
    """Pooling down, interpolation and a transposed convolution up, with a cropped skip, as in U-Net."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, padding=1)
        self.low = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)
        self.out = nn.Conv2d(11, 2, 3)

    def forward(self, x):
        high = F.relu(self.down(x))
        low = F.silu(self.low(F.avg_pool2d(high, 2)))
        smooth = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(torch.cat([high, self.up(low), smooth], 1)[:, :, 1:-1, 1:])


class Shuffled(nn.Module):
    """Channels split, shuffled and padded by reflection, with a PReLU and in-place activations, as in ShuffleNet."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")
        self.act = nn.PReLU(4, init=0.3)
        self.conv = nn.Conv2d(4, 6, 3, groups=2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        one, two = x.chunk(2, 1)
        x = torch.cat([self.left(one), two], 1)
        x = self.act(F.channel_shuffle(F.pad(x, (1, 0, 2, 1), value=0.5), 2))
        return self.relu(self.conv(x)).flatten(1) * 0.5 + 1


class Patches(nn.Module):
    """Patches, layer norm over the channels and linear layers on every place, as in ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, stride=4)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = nn.LayerNorm(6)
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 6))

    def forward(self, x):
        x = self.patch(x)
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


def vgg():
    """Pairs of 3×3 convolutions and max-pooling, then dense layers with dropout."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.ELU(), nn.MaxPool2d(3, stride=2, ceil_mode=True)),
        *(nn.Flatten(), nn.Linear(54, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3), nn.Softmax(1)),
    )


ARCHITECTURES = {
    "net a": (lambda: simple_cnn(1, 2, channels=(4, 8, 16, 32), first_kernel=3, norm=False), (1, 28, 28)),
    "net b": (lambda: simple_cnn(1, 10, channels=(4, 6, 8, 8)), (1, 28, 28)),
    "residual": (lambda: small_resnet(3, 4, channels=(4, 6)), (3, 12, 12)),
    "pre-activation": (lambda: small_resnet(1, 4, channels=(4, 6), order="norm-act-conv"), (1, 11, 9)),
    "vgg": (vgg, (1, 12, 12)),
    "depthwise": (Depthwise, (3, 13, 11)),
    "dense": (Dense, (2, 9, 10)),
    "branching": (Branching, (3, 8, 8)),
    "up and down": (UpAndDown, (1, 8, 10)),
    "shuffled": (Shuffled, (4, 6, 5)),
    "patches": (Patches, (3, 12, 16)),
}


def build(name, dtype=torch.float32):
    """One of the networks with drawn weights and statistics, in evaluation mode, and an image for it."""
    make, shape = ARCHITECTURES[name]
    torch.manual_seed(sorted(ARCHITECTURES).index(name))
    model = make().to(dtype)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model.eval(), torch.randn(shape, dtype=dtype)
