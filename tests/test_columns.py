import dataclasses
import functools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.columns import LayerColumns
from convscope.records import Histogram, LayerStats

numbers = st.one_of(st.floats(-1e3, 1e3), st.just(math.nan))


@st.composite
def records(draw, step=0):
    count = draw(st.integers(0, 50))
    mean = draw(st.floats(-1e3, 1e3)) if count else math.nan
    counts = draw(st.lists(st.integers(0, 300), max_size=4))
    counts = counts if counts and counts[0] and counts[-1] else []
    channels = draw(st.integers(0, 20))
    mask = draw(st.integers(0, 2**channels - 1)).to_bytes(-(-channels // 8), "little")
    own = draw(st.integers(0, 1))
    positive = st.floats(0, 10)
    return LayerStats(
        layer="2.0",
        first_step=step,
        last_step=step,
        count=count,
        mean=mean,
        m2=0.0 if math.isnan(mean) else draw(positive),
        minimum=draw(numbers),
        maximum=draw(numbers),
        kind="Conv2d",
        non_finite=draw(st.booleans()),
        sample_count=draw(st.integers(0, 99)),
        nan_count=draw(st.integers(0, 9)),
        inf_count=draw(st.integers(0, 9)),
        zero_count=draw(st.integers(0, 9)),
        near_zero_count=draw(st.integers(0, 9)),
        histogram=Histogram(draw(st.integers(-508, 500)), tuple(counts)) if counts else Histogram(),
        positive=mask,
        channels=channels,
        positive_samples=draw(st.integers(0, 9)),
        update_ratio=draw(positive) if own else math.nan,
        gradient_rms=draw(positive) if own else math.nan,
        weight_rms=draw(positive) if own else math.nan,
        parameter_records=own,
        sampled=draw(st.sampled_from([(), ("mean", "m2")])),
    )


def series(length):
    return st.tuples(*(records(step) for step in range(length))).map(list)


def assert_close(one, two):
    for field in dataclasses.fields(LayerStats):
        left, right = getattr(one, field.name), getattr(two, field.name)
        if isinstance(left, float):
            assert left == pytest.approx(right, rel=1e-9, abs=1e-9, nan_ok=True), field.name
        else:
            assert left == right, field.name


@given(series(2))
@settings(max_examples=15, deadline=None)
def test_columns_and_their_bytes_are_the_records(given_records):
    columns = LayerColumns.of(given_records)
    again = LayerColumns.from_bytes(columns.to_bytes(), "2.0", "Conv2d", 0.05)
    assert repr(columns.records()) == repr(given_records) == repr(again.records())


@given(series(4), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_merging_many_at_once_is_merging_one_after_the_other(given_records, span):
    merged = LayerColumns.of(given_records).grouped(span).records()
    groups = [given_records[at : at + span] for at in range(0, 4, span)]
    assert len(merged) == len(groups)
    for row, group in zip(merged, groups, strict=True):
        assert_close(row, functools.reduce(LayerStats.merge, group))


@given(series(3), st.integers(0, 3))
@settings(max_examples=12, deadline=None)
def test_joining_puts_together_what_was_cut(given_records, cut):
    columns = LayerColumns.of(given_records)
    assert repr(columns.part(0, cut).joined(columns.part(cut)).records()) == repr(given_records)
    assert repr(columns.before(cut).records()) == repr(given_records[:cut])
    assert repr(columns.after(cut).records()) == repr(given_records[cut + 1 :])


def test_a_row_without_finite_elements_counts_but_has_no_say():
    nothing, something = LayerStats("a", 0, 0, 3, math.nan, 0.0, math.nan, math.nan), LayerStats("a", 1, 1, 1, 2.0, 4.0, 1.0, 3.0)
    for row in (LayerColumns.of([nothing, something]).grouped(2).records()[0], nothing.merge(something)):
        assert (row.count, row.mean, row.std, row.minimum) == (4, 2.0, 2.0, 1.0)


def test_rows_that_were_merged_already_are_filled_up():
    log = [
        dataclasses.replace(row, first_step=at, last_step=at) for at in range(8) for row in [LayerStats("a", 0, 0, 2, 1.0, 0.5, 0.5, 1.5)]
    ]
    columns = LayerColumns.of(log[:5]).grouped(4).joined(LayerColumns.of(log[5:])).grouped(4)
    assert [(row.first_step, row.last_step, row.records) for row in columns.records()] == [(0, 3, 4), (4, 7, 4)]


def test_bytes_that_make_no_sense_are_an_error():
    with pytest.raises(ValueError, match="a block of 3 bytes is not what the log writes"):
        LayerColumns.from_bytes(b"abc", "a", "", 0.05)
    whole = LayerColumns.of([LayerStats("a", 0, 0, 2, 1.0, 0.5, 0.5, 1.5)]).to_bytes()
    with pytest.raises(ValueError, match=r"buffer|block"):
        LayerColumns.from_bytes(whole[:40], "a", "", 0.05)
