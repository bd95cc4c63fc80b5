"""The registry of networks that have a name on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from convscope.errors import UnknownNameError, UsageError
from convscope.nn.models import simple_cnn, small_resnet
from convscope.nn.ratings import RATING_MODELS
from convscope.nn.recipe import Recipe

MODELS: dict[str, Callable[..., nn.Module]] = {"simple_cnn": simple_cnn, "small_resnet": small_resnet}


def build(name: str, in_channels: int, classes: int, image_size: int, **arguments: Any) -> nn.Module:
    """A network by name, fitted to the data.

    Args:
        name: one of `MODELS`.
        in_channels: channels of the images.
        classes: number of classes.
        image_size: pixels of the images' shorter side.
        **arguments: further keyword arguments of that network's function.

    Returns:
        The network, freshly initialised, in training mode.

    Raises:
        UnknownNameError: there is no such network, or it has no such argument.
        UsageError: an argument has an impossible value.

    Example:
        >>> build("simple_cnn", in_channels=1, classes=10, image_size=28, norm=False)
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    function = MODELS[name]
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "image_size"]
    for argument in arguments:
        if argument not in known:
            raise UnknownNameError(f"argument of {name}", argument, known)
    try:
        return function(in_channels, classes, image_size=image_size, **arguments)
    except TypeError as error:
        raise UsageError(f"{name} cannot be built with {arguments}: {error}. Check the type of each argument.") from error


def rebuild(recipe: Recipe) -> nn.Module:
    """The network that a recipe describes, freshly initialised.

    Raises:
        UnknownNameError: there is no such network.
        UsageError: the arguments do not fit it; the file that they come from is damaged or of another version.
    """
    models = MODELS | RATING_MODELS
    if recipe.name not in models:
        raise UnknownNameError("model", recipe.name, models)
    try:
        return models[recipe.name](**recipe.arguments)
    except TypeError as error:
        raise UsageError(
            f"{recipe.name} cannot be built with {recipe.arguments}: {error}. The run is damaged, or of another version."
        ) from error
