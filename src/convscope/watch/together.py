"""Whether several networks that are trained in one loop are parts of one: a body and a head, an encoder and a decoder.

Receives what happens in the first step and holds back what is observed until it is over. They are one when a single optimiser holds all of them, or each
backward pass of the step went through all of them and all were stepped; a generator and its critic, or two students, are not. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import nn

from convscope.records import Observation
from convscope.watch.layers import unwrapped


class Joined(nn.Module):
    """Holds networks that are parts of one. It is made by the watcher and never called."""


class Together:
    """The first step of several networks.

    Args:
        networks: by name.
        emit: receives what was held back, when they are not one.
    """

    def __init__(self, networks: Mapping[str, nn.Module], emit: Callable[[Observation], None]) -> None:
        self._networks, self._emit = dict(networks), emit
        self._held: list[Observation] = []
        self._reached: dict[str, set[int]] = {name: set() for name in networks}  # backward passes
        self._stepped: set[str] = set()
        self._optimizers: set[int] = set()

    def observe(self, seen: Observation) -> None:
        """Hold back an observation of one of them."""
        self._held.append(seen)

    def reached(self, network: str, backward: int) -> None:
        """A backward pass has come to an output of a network."""
        self._reached[network].add(backward)

    def stepped(self, networks: Iterable[str], optimizer: int) -> None:
        """An optimiser steps that holds weights of these networks."""
        self._stepped.update(networks)
        self._optimizers.add(optimizer)

    def are_one(self) -> bool:
        """Whether the networks are parts of one."""
        passes = list(self._reached.values())
        shared = all(one and one == passes[0] for one in passes)
        return self._stepped == set(self._networks) and (shared or len(self._optimizers) == 1)

    def joined(self) -> nn.Module:
        """A network that holds them as its parts; it is never called itself.

        Raises:
            KeyError: a name cannot name a part.
        """
        whole = Joined()
        for name, network in self._networks.items():
            whole.add_module(name, network)
        return whole

    def release(self) -> None:
        """Hand on what was held back."""
        held, self._held = self._held, []
        for seen in held:
            self._emit(seen)

    def as_part(self, layer: str) -> str:
        """The name that a layer of one of them has in the network that holds them all: "head.0.1" for "head/0.1".

        A network that is a layer itself, and was called by its class ("head/Linear"), is called by its own name.
        """
        network, slash, inner = layer.partition("/")
        if not slash:
            return layer
        own = type(unwrapped(self._networks[network])).__name__
        known = {name for name, _ in self._networks[network].named_modules()}
        rest = inner[len(own) :]
        if inner.startswith(own) and rest[:1] in ("", ":", ".") and inner not in known:
            return network + rest
        return f"{network}.{inner}"
