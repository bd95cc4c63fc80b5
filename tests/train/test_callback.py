"""Callbacks: names, order, and the errors that catch slips."""

import pytest

from convscope.errors import UnknownNameError, UsageError
from convscope.train.callback import HOOKS, Callback, CallbackList, snake_case


def test_hooks_are_listed_once():
    assert HOOKS == (
        "before_fit",
        "before_epoch",
        "before_batch",
        "after_pred",
        "after_loss",
        "before_step",
        "after_step",
        "before_validate",
        "after_validate",
        "after_epoch",
        "before_checkpoint",
        "after_fit",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ActivationStats", "activation_stats"), ("LRFinder", "lr_finder"), ("Recorder", "recorder"), ("StopOnNaN2x", "stop_on_na_n2x")],
)
def test_snake_case(name, expected):
    assert snake_case(name) == expected


def test_hooks_run_in_list_order_and_only_where_overridden():
    calls = []

    class First(Callback):
        def after_step(self, learner):
            calls.append("first")

    class Second(Callback):
        def after_step(self, learner):
            calls.append("second")

    class Silent(Callback):
        pass

    callbacks = CallbackList([Second(), Silent(), First()])
    callbacks.call("after_step", None)
    callbacks.call("before_fit", None)
    assert calls == ["second", "first"]


def test_a_misspelt_hook_is_an_error_with_a_suggestion():
    class Slip(Callback):
        def after_bacth(self, learner):
            pass

    with pytest.raises(UnknownNameError) as error:
        CallbackList([Slip()])
    assert str(error.value).startswith("There is no hook of Slip named 'after_bacth'. Did you mean ")


def test_a_class_instead_of_an_instance():
    with pytest.raises(UsageError) as error:
        CallbackList([Callback])
    assert str(error.value) == (
        "callbacks holds <class 'convscope.train.callback.Callback'>, which is not an instance of convscope.Callback. Write Callback() with brackets."
    )


def test_two_callbacks_of_one_name():
    class Mine(Callback):
        pass

    with pytest.raises(UsageError) as error:
        CallbackList([Mine(), Mine()])
    assert (
        str(error.value) == "Two callbacks are named 'mine'. The learner holds each under its name: give one a subclass with another name."
    )
