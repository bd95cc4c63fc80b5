"""Initialisation by name, and starting from another network's weights."""

import pytest
import torch
from torch import nn

from convscope.errors import CheckpointError, ModelError, UnknownNameError
from convscope.nn import SCHEMES, head_of, initialise, simple_cnn, small_resnet, start_from


def equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_initialise_is_repeatable_and_leaves_the_global_generator_alone(scheme):
    one, two = simple_cnn(), simple_cnn()
    before = torch.get_rng_state()
    for net in (one, two):
        initialise(net, scheme, torch.Generator().manual_seed(3))
    assert equal(one.state_dict(), two.state_dict())
    assert torch.equal(torch.get_rng_state(), before)


def test_pytorch_scheme_is_what_layers_do_themselves():
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(7, 2))
    torch.manual_seed(5)
    again = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(7, 2))
    torch.manual_seed(5)
    initialise(again, "pytorch")
    assert equal(net.state_dict(), again.state_dict())


def test_initialise_keeps_the_parameters_themselves_and_resets_norms():
    net = simple_cnn()
    before = list(net.parameters())
    nn.init.constant_(net[0][1].weight, 7)
    net[0][1].running_mean.fill_(3)
    initialise(net, "kaiming_normal")
    assert all(one is two for one, two in zip(before, net.parameters(), strict=True))
    assert net[0][1].weight.eq(1).all()
    assert net[0][1].running_mean.eq(0).all()
    assert net[0][0].bias.eq(0).all()


def test_unknown_scheme():
    with pytest.raises(UnknownNameError) as caught:
        initialise(simple_cnn(), "kaiming")
    assert str(caught.value) == (
        "There is no initialisation 'kaiming'. Did you mean 'kaiming_normal' or 'kaiming_uniform'? "
        "Known: 'pytorch', 'kaiming_normal', 'kaiming_uniform', 'xavier_normal', 'orthogonal'."
    )


def test_head():
    assert head_of(simple_cnn()) == ("4.0", "4.1")
    assert head_of(simple_cnn(norm=False)) == ("4.0",)
    assert head_of(small_resnet()) == ("7",)
    with pytest.raises(ModelError) as caught:
        head_of(nn.Sequential(nn.ReLU()))
    assert str(caught.value) == "Sequential has no convolution or linear layer, so it has no classifying head. Give a classifier."


def test_same_classes_copy_everything():
    trained, fresh = simple_cnn(), simple_cnn()
    result = start_from(fresh, trained.state_dict())
    assert equal(trained.state_dict(), fresh.state_dict())
    assert (result.fresh, result.frozen) == ((), ())


@pytest.mark.parametrize("make", [simple_cnn, small_resnet])
def test_other_classes_replace_the_head_and_freeze_the_body(make):
    trained, fresh = make(3, 10), make(3, 4)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    result = start_from(fresh, trained.state_dict(), freeze_body=True)
    after = fresh.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in result.fresh)
    assert all(torch.equal(after[name], trained.state_dict()[name]) for name in result.copied)
    assert set(result.fresh) | set(result.copied) == set(after)
    assert {name for name, parameter in fresh.named_parameters() if not parameter.requires_grad} == set(result.frozen)
    assert all(parameter.requires_grad for name in head_of(fresh) for parameter in fresh.get_submodule(name).parameters())


def test_another_body_is_an_error_and_changes_nothing():
    fresh = simple_cnn(1, 10)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        start_from(fresh, simple_cnn(3, 10).state_dict())
    assert str(caught.value) == (
        "These weights belong to another network: the first of 1 tensors that do not fit, '0.0.weight', "
        "is of shape (8, 1, 5, 5) here and of shape (8, 3, 5, 5) in the file. Only the last layer may differ, by the number of classes. "
        "Train with the same --model and settings as the weights were trained with."
    )
    assert equal(before, fresh.state_dict())
