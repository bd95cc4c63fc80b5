"""Warnings and tracebacks of a watched loss are the user's."""

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from convscope.watch.loss_spy import LossSpy


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    (one,) = caught
    return Path(one.filename).name, one.lineno


def test_a_warning_about_a_loss_names_the_same_line_as_without_us():
    rows, targets, module = torch.randn(4, 1), torch.randn(4), nn.MSELoss()
    calls = [lambda: F.mse_loss(rows, targets), lambda: module(rows, targets), lambda: F.l1_loss(rows, targets)]
    plain = [warned(call) for call in calls]
    with LossSpy(lambda _: None):
        watched = [warned(call) for call in calls]
    assert watched == plain
    assert plain[0][0] == Path(__file__).name
