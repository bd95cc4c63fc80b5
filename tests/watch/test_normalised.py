"""What batch norm keeps is as good as reading its input and output; each figure is compared with one computed in float64 from the whole tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convscope.watch import Watcher
from convscope.watch.normalised import kept_by_batch_norm


def watched_and_whole(model: nn.Module, batches: list[Tensor]) -> tuple[dict[str, list[Any]], dict[str, list[Tensor]]]:
    """Records of each layer, and its outputs in float64 as they were when it returned them."""
    whole: dict[str, list[Tensor]] = {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Watcher(model) as watch:
        for name, layer in model.named_modules():
            if name:
                layer.register_forward_hook(
                    lambda _, __, output, name=name: whole.setdefault(name, []).append(output.detach().double().clone())
                )
        for batch in batches:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    return {name: list(watch.layers()[name]) for name in whole if name in watch.layers()}, whole


def assert_equal(records: dict[str, list[Any]], whole: dict[str, list[Tensor]]) -> None:
    for name, outputs in whole.items():
        assert len(records[name]) == len(outputs)
        for record, output in zip(records[name], outputs, strict=True):
            mean, std = output.mean().item(), output.std(correction=0).item()
            scale = max(std, 1e-6 * abs(mean))
            assert record.count == output.numel()
            assert abs(record.mean - mean) <= 1e-4 * scale
            assert abs(record.std - std) <= 1e-3 * scale
            assert not record.sampled
            assert not record.non_finite


def test_moments_around_batch_norm_equal_those_of_all_elements() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.BatchNorm2d(6, affine=False),
        nn.Flatten(),
        nn.Linear(6 * 8 * 8, 5),
        nn.BatchNorm1d(5, eps=1e-3),
    )
    with torch.no_grad():
        model[1].weight.uniform_(0.1, 4)
        model[1].bias.normal_()
    records, whole = watched_and_whole(model, [torch.randn(16, 1, 12, 12) * 3 + 50 for _ in range(5)])
    del whole["5"]  # Flatten is not watched
    assert_equal(records, whole)


class Rewritten(nn.Module):
    """Batch norm takes what the convolution returned, once as it is and then changed in place, or something else altogether."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.conv(images)
        self.passes += 1
        if self.passes == 3:
            hidden.mul_(5)
        return self.norm(hidden * 2 if self.passes == 5 else hidden)


def test_an_output_that_is_changed_before_batch_norm_takes_it_is_told_from_its_sample() -> None:
    torch.manual_seed(0)
    records, whole = watched_and_whole(Rewritten(), [torch.randn(8, 1, 9, 9) for _ in range(6)])
    changed, kept = records["conv"][2], whole["conv"][2]
    assert changed.sampled == ("mean", "m2")
    assert changed.count == kept.numel()
    assert abs(changed.std - kept.std(correction=0).item()) < 0.1 * changed.std
    for name in records:
        del records[name][2], whole[name][2]
    assert_equal(records, whole)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_element_that_is_not_finite_is_seen(bad: float) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4))
    batches = [torch.randn(8, 1, 20, 20) for _ in range(3)]
    batches[2][3, 0, 7, 7] = bad
    records, _ = watched_and_whole(model, batches)
    assert [record.non_finite for record in records["0"]] == [False, False, True]
    assert [record.non_finite for record in records["1"]] == [False, False, True]


@pytest.mark.parametrize("scale", [1e-6, 1e25])
def test_a_spread_that_float32_cannot_hold_is_told_from_the_sample(scale: float) -> None:
    """1/sqrt(variance + eps) says nothing when the variance is tiny against eps, or overflows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    nn.init.ones_(model[0].weight)
    records, whole = watched_and_whole(model, [torch.randn(8, 1, 20, 20) * scale for _ in range(3)])
    for record, output in zip(
        records["0"][1:], whole["0"][1:], strict=True
    ):  # the first output is read whole: nobody knows yet what takes it
        assert record.sampled == ("mean", "m2")
        assert not record.non_finite
        assert record.std == pytest.approx(output.std(correction=0).item(), rel=0.1)


def test_batch_norm_that_does_not_look_at_the_batch_keeps_nothing() -> None:
    norm = nn.BatchNorm1d(3)
    batch = torch.randn(8, 3, requires_grad=True)
    assert kept_by_batch_norm(norm(batch)) is not None
    assert kept_by_batch_norm(norm.eval()(batch)) is None
    norm.train().bias.requires_grad_(False)
    assert kept_by_batch_norm(norm(batch)) is None
    with torch.no_grad():
        assert kept_by_batch_norm(norm(batch)) is None


def test_saved_tensors_that_somebody_packs_are_left_alone() -> None:
    """With hooks on saved tensors (to keep them on disk, for example) reading one would call them."""
    norm, unpacked = nn.BatchNorm1d(3), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: unpacked.append(1) or tensor):
        assert kept_by_batch_norm(norm(torch.randn(8, 3, requires_grad=True))) is None
    assert not unpacked
