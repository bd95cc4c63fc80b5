"""Schedules against the book's numbers and a reference written out the long way."""

import math

import pytest

from convscope.errors import UnknownNameError, UsageError
from convscope.train.schedules import Hyper, Schedule


def reference_one_cycle(step, steps, lr_max):
    """The book's 1cycle in degrees, piece by piece."""
    quarter = steps / 4
    if step < quarter:
        angle = 180 * step / quarter
        weight = (1 - math.cos(math.radians(angle))) / 2
        return lr_max / 25 + (lr_max - lr_max / 25) * weight, 0.95 - 0.10 * weight
    angle = 180 * (step - quarter) / (steps - quarter)
    weight = (1 - math.cos(math.radians(angle))) / 2
    return lr_max + (lr_max / 1e5 - lr_max) * weight, 0.85 + 0.10 * weight


@pytest.mark.parametrize("steps", [4, 100, 585])
def test_one_cycle_is_the_books(steps):
    schedule = Schedule("one_cycle", 0.06)
    for step in range(steps):
        lr, momentum = reference_one_cycle(step, steps, 0.06)
        assert schedule(step, steps).lr == pytest.approx(lr, rel=1e-12)
        assert schedule(step, steps).momentum == pytest.approx(momentum, rel=1e-12)


def test_one_cycle_turns_where_it_should():
    schedule = Schedule("one_cycle", 0.1)
    assert schedule(0, 100) == Hyper(0.1 / 25, 0.95)
    assert schedule(25, 100) == Hyper(0.1, 0.85)
    rates = [schedule(step, 100).lr for step in range(100)]
    assert rates.index(max(rates)) == 25
    assert rates[-1] < 0.1 / 1000


def test_constant_and_cosine():
    assert [Schedule("constant", 0.5)(step, 10) for step in (0, 9)] == [Hyper(0.5), Hyper(0.5)]
    cosine = Schedule("cosine", 1.0)
    assert cosine(0, 10).lr == 1.0
    assert cosine(5, 10).lr == pytest.approx((1 + 1e-5) / 2)


def test_schedule_survives_json():
    schedule = Schedule("one_cycle", 0.1, pct_start=0.3)
    assert Schedule.from_config(schedule.to_config()) == schedule


def test_messages():
    with pytest.raises(UsageError) as error:
        Schedule("constant", 0.0)
    assert str(error.value) == "The learning rate is 0.0; it must be a number above 0, usually between 1e-5 and 1. lr_find() suggests one."
    with pytest.raises(UnknownNameError) as error:
        Schedule("one_cycel", 0.1)
    assert str(error.value) == "There is no schedule 'one_cycel'. Did you mean 'one_cycle'? Known: 'one_cycle', 'cosine', 'constant'."
    with pytest.raises(UsageError) as error:
        Schedule("one_cycle", 0.1, pct_start=1.0)
    assert (
        str(error.value) == "pct_start is 1.0; it is the share of the steps that the rate goes upwards, between 0 and 1 (0.25 unless set)."
    )
