"""Dropout that is called as a function is heard while somebody listens; what it computes, and the functions themselves, stay as they are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convscope.watch.dropout_spy import IN_TRAINING, DropoutSpy, called_by_a_module

MODULES = {
    "dropout": nn.Dropout,
    "dropout1d": nn.Dropout1d,
    "dropout2d": nn.Dropout2d,
    "dropout3d": nn.Dropout3d,
    "alpha_dropout": nn.AlphaDropout,
    "feature_alpha_dropout": nn.FeatureAlphaDropout,
}
SHAPES = {"dropout1d": (2, 3, 8), "dropout3d": (2, 3, 2, 4, 4)}


@pytest.mark.parametrize("name", IN_TRAINING)
def test_functions_and_modules_are_told_apart_and_drop_what_they_would_have_dropped(name):
    function, module, values, heard = getattr(F, name), MODULES[name](0.5), torch.randn(SHAPES.get(name, (2, 3, 4, 4))), []

    def results():
        torch.manual_seed(0)
        return [
            function(values, 0.5, True),
            module(values),
            function(values, p=0.5),
            function(values, 0.5, False),
            function(values, 0.0, True),
        ]

    plain = results()
    with DropoutSpy(lambda: heard.append(called_by_a_module())):
        watched = results()
    assert all(map(torch.equal, plain, watched))
    by_default = [False] if IN_TRAINING[name] else []
    assert heard == [False, True, *by_default]  # nothing is dropped with training=False, nor with p=0
    module(values)
    assert len(heard) == 2 + len(by_default)


def test_the_functions_are_put_back_also_after_an_error():
    originals = {name: (getattr(F, name), getattr(F, name).__code__, dict(vars(getattr(F, name)))) for name in IN_TRAINING}
    with pytest.raises(ZeroDivisionError), DropoutSpy(lambda: print(1 / 0)):
        F.dropout(torch.zeros(3, 4), 0.5)
    assert {name: (getattr(F, name), getattr(F, name).__code__, vars(getattr(F, name))) for name in IN_TRAINING} == originals


def test_dropout_inside_a_compiled_function_is_left_alone():
    torch.manual_seed(0)
    compiled = torch.compile(lambda values: F.dropout(values, 0.5) * 2, backend="eager")
    values, heard = torch.ones(4, 8), []
    with DropoutSpy(lambda: heard.append(True)):
        torch.manual_seed(1)
        watched = compiled(values)
    torch.manual_seed(1)
    assert torch.equal(watched, F.dropout(values, 0.5) * 2)
