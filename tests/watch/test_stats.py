"""Every figure against a slow obvious reference in float64."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.records import bin_edges, merge_moments
from convscope.watch.buffers import Buffers
from convscope.watch.stats import SAMPLE_SIZE, channel_maximum, dense, sample_plan, sample_stats, sums

MEAN_TOLERANCE, STD_TOLERANCE = 1e-4, 1e-3  # of max(std, 1e-6 |mean|), as `sums` promises


def record_of(values, near_zero=0.05, step=0):
    """The record that one output gives."""
    buffers = Buffers(4, near_zero)
    place = buffers.place("layer", "Conv2d")
    buffers.begin(0, step)
    buffers.add(place, 0, values)
    return buffers.drain({})[0].records()[0]


def assert_moments(values, record):
    exact = values.detach().double().reshape(-1)
    mean, std = float(exact.mean()), float(exact.std(correction=0))
    scale = max(std, 1e-6 * abs(mean), 1e-30)
    assert abs(record.mean - mean) <= MEAN_TOLERANCE * scale
    assert abs(record.std - std) <= STD_TOLERANCE * scale
    assert record.count == exact.numel()
    assert not record.non_finite
    assert record.sampled == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (3.0, 0.5), (1000.0, 0.1), (-1e6, 1.0), (0.0, 1e-20), (5.0, 0.0), (0.0, 0.0), (1e4, 1e4)]
)
def test_moments_are_those_of_float64(dtype, mean, std):
    torch.manual_seed(0)
    values = (torch.randn(16, 8, 28, 28, dtype=torch.float64) * std + mean).to(dtype)
    if torch.isfinite(values).all():
        assert_moments(values, record_of(values))


def test_huge_values_whose_squares_overflow_are_exact():
    values = torch.randn(1000) * 1e30
    assert_moments(values, record_of(values))


def test_moments_of_several_outputs_in_one_step_add_up():
    torch.manual_seed(0)
    parts = [torch.randn(8, 4, 3, 3) + shift for shift in (0.0, 100.0, -3.0)]
    buffers = Buffers(4, 0.05)
    place = buffers.place("layer", "Conv2d")
    buffers.begin(2, 7)
    for part in parts:
        buffers.add(place, 2, part)
    record = buffers.drain({})[0].records()[0]
    assert_moments(torch.cat(parts), record)
    assert (record.first_step, record.records) == (7, 1)
    assert record.sample_count == record.histogram.total == parts[0].numel()


def special_floats():
    plain = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return st.one_of(
        plain, st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-42, -1e-45, 3.4e38, -3.4e38, 0.05, -0.05, 1.0, 1.5, -2.0])
    )


@given(values=st.lists(special_floats(), min_size=1, max_size=60), near_zero=st.sampled_from([0.05, 0.0, 1.0]))
@settings(max_examples=150, deadline=None)
def test_what_a_sample_looks_like(values, near_zero):
    row = torch.tensor(values, dtype=torch.float32)
    record = record_of(row, near_zero)
    finite = [value for value in row.tolist() if math.isfinite(value)]
    assert record.sample_count == len(values)
    assert record.histogram.total + record.nan_count + record.inf_count == len(values)
    assert record.nan_count == sum(map(math.isnan, values))
    assert record.inf_count == sum(map(math.isinf, row.tolist()))
    assert record.zero_count == sum(value == 0 for value in finite)
    limit = float(numpy.float32(near_zero))
    assert record.near_zero_count == sum(abs(value) <= limit for value in finite)
    assert record.non_finite == (len(finite) < len(values))
    if finite:
        assert (record.minimum, record.maximum) == (min(finite), max(finite))
    else:
        assert math.isnan(record.minimum)
        assert math.isnan(record.mean)
    for offset, count in enumerate(record.histogram.counts):
        index = record.histogram.first + offset
        low, high = bin_edges(index)
        inside = [x for x in finite if (low <= x < high if index > 0 else low < x <= high if index < 0 else low < x < high)]
        assert count == len(inside)
    if record.non_finite:
        assert record.sampled == ("mean", "m2")
        if finite:
            assert record.mean == pytest.approx(numpy.mean(numpy.float64(finite)), rel=1e-12, abs=1e-45)
            assert record.std == pytest.approx(numpy.std(numpy.float64(finite)), rel=1e-9, abs=1e-45)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0, 2), (), (1,), (3, 1), (2, 3, 4, 5, 6)])
def test_empty_scalar_and_deep_outputs(shape):
    values = torch.ones(shape)
    record = record_of(values, step=0)
    assert record.count == values.numel()
    assert record.sample_count == min(values.numel(), SAMPLE_SIZE)
    if values.numel():
        assert (record.mean, record.std, record.minimum, record.maximum) == (1.0, 0.0, 1.0, 1.0)
    else:
        assert math.isnan(record.mean)
        assert math.isnan(record.minimum)


def test_the_mask_tells_which_channels_were_ever_positive():
    values = -torch.rand(6, 19, 4, 4)
    values[3, 2, 1, 1] = values[0, 17, 0, 0] = 0.5
    values[:, 5] = 0.0
    record = record_of(values, step=0)
    assert record.channels == 19
    assert record.positive_samples == 6
    assert set(range(19)) - set(record.never_positive) == {2, 17}


@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_channel_maximum_is_that_of_every_element(shape, seed):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    assert channel_maximum(values).tolist() == [values[:, channel].max().item() for channel in range(shape[1])]


@pytest.mark.parametrize("view", ["contiguous", "channels last", "transposed", "expanded", "sliced"])
def test_dense_holds_every_element_once(view):
    values = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    values = {
        "contiguous": values,
        "channels last": values.to(memory_format=torch.channels_last),
        "transposed": values.transpose(0, 3),
        "expanded": values[:, :1].expand(-1, 3, -1, -1),
        "sliced": values[:, 1:, ::2],
    }[view]
    assert sorted(dense(values).tolist()) == sorted(values.flatten().tolist())
    assert (dense(values).data_ptr() == values.data_ptr()) == (view in ("contiguous", "channels last"))


@pytest.mark.parametrize(
    ("count", "image"), [(802_816, 1568), (131_072, 256), (5120, 10), (65_536 * 4, 65_536), (2049, 1), (2048, 3), (7, 7)]
)
def test_samples_stay_inside_and_spread_over_the_image(count, image):
    plan = sample_plan(count, image)
    assert plan.size == min(count, SAMPLE_SIZE)
    flat = torch.arange(count, dtype=torch.float64)
    seen, places = set(), []
    for step in range(50):
        taken = plan.take(flat, step).reshape(-1).long()
        assert taken.min() >= 0
        assert taken.max() < count
        assert len(set(taken.tolist())) == plan.size
        seen.update(taken.tolist())
        places.append(taken % image)
    assert len(seen) > min(count, 10 * SAMPLE_SIZE) * 0.5  # other elements at each step
    if image >= 64:
        spread = torch.histc(torch.cat(places).double(), 8, 0, image)
        assert spread.min() > 0.5 * spread.mean()  # no part of the image is passed over


def test_many_rows_are_the_same_as_one_at_a_time():
    rows = torch.randn(7, 100)
    rows[3, 5], rows[4, :] = math.nan, 0.0
    together = sample_stats(rows)
    for number, row in enumerate(rows):
        alone = sample_stats(row[None])
        for name in ("nan_count", "zero_count", "near_zero_count", "minimum", "maximum"):
            assert getattr(together, name)[number] == getattr(alone, name)[0]
        assert together.bins[number].sum() == alone.bins[0].sum() == 100 - (number == 3)


def test_the_moments_of_an_ordinary_output_need_no_second_pass():
    """The meta-test of the tolerance: without the shift, values around 1,000 with a spread of 0.1 would be far off."""
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) * 0.1 + 1000
    naive = float(torch.dot(values, values)) / 100_000 - float(values.sum() / 100_000) ** 2
    assert abs(naive - 0.01) > 0.01
    count, total, squares = sums(values, 100_000)
    assert squares / count - (total / count) ** 2 == pytest.approx(float(values.double().var(correction=0)), rel=1e-3)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), min_size=2, max_size=6))
@settings(max_examples=50, deadline=None)
def test_merged_moments_are_those_of_one_pass(parts):
    merged = (0, math.nan, 0.0)
    for part in parts:
        own = (len(part), float(numpy.mean(part)), float(numpy.var(part) * len(part)))
        merged = (merged[0] + own[0], *merge_moments(merged, own))
    everything = [value for part in parts for value in part]
    assert merged[1] == pytest.approx(numpy.mean(everything), rel=1e-9, abs=1e-9)
    assert merged[2] == pytest.approx(numpy.var(everything) * len(everything), rel=1e-6, abs=1e-6)
