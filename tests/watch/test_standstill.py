"""Layers on which somebody set requires_grad, which a module does not hand on to its weights."""

from torch import nn

from convscope.watch.standstill import unfrozen_in_vain


def test_only_layers_with_frozen_weights_are_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    model.requires_grad_(False)
    assert unfrozen_in_vain(model) == ""
    for layer in model[:3]:
        layer.requires_grad = True  # the second one has no weights
    model[2].requires_grad_(True)
    assert unfrozen_in_vain(model) == "0"
    model[3].requires_grad = False
    assert unfrozen_in_vain(model) == "0"
