"""Batches: the same whatever came before, on any number of processes, and normalised as a slow loop would."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convscope.data.augment import Augment
from convscope.data.batches import BatchLoader, Split
from convscope.data.preprocess import Preprocess
from convscope.errors import UsageError

PREPROCESS = Preprocess(3, 6, 5, (0.2, 0.4, 0.6), (0.1, 0.2, 0.3))


def split(count: int, *, rows: Sequence[int] | None = None) -> Split:
    """Images of which each holds its own row number; labels are the row numbers too."""
    total = count if rows is None else max(rows) + 1
    images_MCHW = torch.arange(total, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 6, 5).contiguous()
    rows_N = None if rows is None else torch.tensor(rows)
    return Split("train", images_MCHW, torch.arange(count) if rows_N is None else rows_N, rows_N)


def loader(count: int = 23, batch_size: int = 5, **options: object) -> BatchLoader:
    return BatchLoader(split(count), PREPROCESS, batch_size=batch_size, **options)


def numbers(batches: object) -> list[list[int]]:
    return [labels_N.tolist() for _, labels_N in batches]


def test_images_are_normalised_and_stay_with_their_labels() -> None:
    for images_NCHW, labels_N in loader(shuffle=True).batches(epoch=3):
        assert (images_NCHW.dtype, labels_N.dtype) == (torch.float32, torch.int64)
        for image_CHW, label in zip(images_NCHW, labels_N.tolist(), strict=True):
            for channel in range(3):
                expected = (label / 255 - PREPROCESS.mean[channel]) / PREPROCESS.std[channel]
                assert image_CHW[channel].min().item() == pytest.approx(expected, abs=1e-5)
                assert image_CHW[channel].max().item() == pytest.approx(expected, abs=1e-5)
        assert PREPROCESS.to_pixels(images_NCHW)[:, 0, 0, 0].tolist() == labels_N.tolist()


def test_rows_of_a_shared_array() -> None:
    batches = list(BatchLoader(split(3, rows=[7, 2, 9]), PREPROCESS, batch_size=2).batches(0))
    assert numbers(batches) == [[7, 2], [9]]
    assert [PREPROCESS.to_pixels(images)[:, 0, 0, 0].tolist() for images, _ in batches] == [[7, 2], [9]]


def test_training_shuffles_and_drops_the_incomplete_batch_unless_it_is_the_only_one() -> None:
    train, valid, tiny = loader(shuffle=True), loader(), loader(count=3, shuffle=True)
    assert (len(train), train.drop_last, train.count) == (4, True, 23)
    assert (len(valid), valid.drop_last) == (5, False)
    assert (len(tiny), tiny.drop_last) == (1, False)
    assert [len(batch) for batch in numbers(train.batches(0))] == [5] * 4
    assert numbers(valid.batches(0)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19], [20, 21, 22]]
    assert sorted(numbers(tiny.batches(0))[0]) == [0, 1, 2]


def test_order_comes_from_seed_and_epoch_alone() -> None:
    first = numbers(loader(shuffle=True).batches(2))
    torch.rand(100)
    used = loader(shuffle=True)
    list(used.batches(0))
    assert numbers(used.batches(2)) == first
    assert numbers(used.batches(1)) != first
    assert numbers(loader(shuffle=True, seed=1).batches(2)) != first
    assert sorted(used.order(2).tolist()) == list(range(23))


def test_iterating_counts_the_epochs() -> None:
    train = loader(shuffle=True)
    assert [numbers(train), numbers(train)] == [numbers(train.batches(0)), numbers(train.batches(1))]


def same(one: Tensor, two: Tensor) -> bool:
    return torch.equal(one, two)


@pytest.mark.parametrize("augment", [None, Augment(flip=0.5)])
def test_starting_in_the_middle_gives_the_same_batches(augment: Augment | None) -> None:
    train = loader(shuffle=True, augment=augment)
    whole, rest = list(train.batches(1)), list(train.batches(1, first_step=2))
    assert len(rest) == 2
    assert all(same(a, c) and same(b, d) for (a, b), (c, d) in zip(whole[2:], rest, strict=True))
    assert list(train.batches(1, first_step=4)) == []


@given(world=st.integers(1, 5), batch_size=st.integers(1, 9), shuffle=st.booleans(), augmented=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_shares_of_all_processes_join_to_the_batch_of_one(world: int, batch_size: int, shuffle: bool, augmented: bool) -> None:
    made = loader(batch_size=batch_size, shuffle=shuffle, augment=Augment() if augmented else None)
    shares = [list(made.batches(1, rank=rank, world=world)) for rank in range(world)]
    for step, (images_NCHW, labels_N) in enumerate(made.batches(1)):
        joined = torch.cat([share[step][0] for share in shares])
        assert torch.cat([share[step][1] for share in shares]).tolist() == labels_N.tolist()
        torch.testing.assert_close(joined, images_NCHW, atol=1e-5, rtol=0)


def test_augmentation_changes_images_and_off_is_exactly_off() -> None:
    picture = torch.randint(0, 256, (8, 3, 6, 5), dtype=torch.uint8)
    data = Split("train", picture, torch.arange(8))
    plain, off, on = (
        next(BatchLoader(data, PREPROCESS, batch_size=8, augment=augment).batches(0))[0]
        for augment in (None, Augment(0.0, 0.0, 0.0, 0.0), Augment())
    )
    assert torch.equal(plain, off)
    assert torch.equal(plain, PREPROCESS.normalise(picture))
    assert not torch.allclose(plain, on)
    again = next(BatchLoader(data, PREPROCESS, batch_size=8, augment=Augment()).batches(0))[0]
    assert torch.equal(on, again)


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(loader(shuffle=True, augment=Augment(flip=0.5)).batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_come_on_the_device_asked_for() -> None:
    on_meta = BatchLoader(split(3, rows=[7, 2, 9]), PREPROCESS, batch_size=2, augment=Augment()).to("meta")  # a device without memory
    shapes = [(images.shape, images.device.type, labels.device.type) for images, labels in on_meta.batches(0)]
    assert shapes == [((2, 3, 6, 5), "meta", "meta"), ((1, 3, 6, 5), "meta", "meta")]


def test_single_images_and_their_names() -> None:
    data = split(2, rows=[7, 2])
    assert data.pixels(1)[0, 0].tolist() == [2] * 5
    assert [data.name(0), data.row(0), data.counts(10)] == ["train:0", 7, (0, 0, 1, 0, 0, 0, 0, 1, 0, 0)]
    with pytest.raises(UsageError) as error:
        data.pixels(2)
    assert str(error.value) == "There is no image train:2; train has 2 images, from 0 to 1."
