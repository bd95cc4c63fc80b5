"""How a network was built: its function's name and arguments, kept on the network, so that a saved run can build it again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from torch import nn

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The name of a function of `convscope.nn` and every argument with which it was called, as JSON values."""

    name: str
    arguments: dict[str, Any]


def described(function: Callable[P, M]) -> Callable[P, M]:
    """Let a network function keep its recipe on the networks that it returns."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> M:
        model = function(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in bound.arguments.items()}
        object.__setattr__(model, "recipe", Recipe(function.__name__, arguments))
        return model

    return build


def recipe_of(model: nn.Module) -> Recipe | None:
    """The recipe that `described` kept, or None for a network class of the user's own."""
    found = vars(model).get("recipe")
    return found if isinstance(found, Recipe) else None
