"""Watching a training loop from outside: every layer, every step, at almost no cost.

watcher.py      Watcher, the public face
recording.py    when a step begins and ends, and what is written of it
step.py         the running step, and the record that it becomes
trainers.py     which networks an optimiser trains
careful.py      errors of ours stay ours
passes.py       when a network computes
layers.py       which modules are watched, under which names
stats.py        tensors to numbers, as pure functions
buffers.py      one layer's outputs, collected over a few steps
parameters.py   gradients and updates
functional.py   activations called as functions
part_calls.py   passes of a network of which only the parts are called
together.py     whether several networks are parts of one
exchange.py     how calls of torch.nn.functional are heard (loss_spy.py, dropout_spy.py)
backward.py     what backward was called on, when no loss function was seen
hyper.py        an optimiser's hyper-parameters
observe.py      what diagnosis needs besides (with observe_*.py, graph_facts.py, identity.py, deferred.py)
"""

from __future__ import annotations

from convscope.watch.watcher import Watcher

__all__ = ["Watcher"]
