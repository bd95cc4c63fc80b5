"""convscope: train convolutional networks on your images and see exactly what happens inside them.

The public names, each loaded when it is first used, so that `import convscope` costs nothing:

    import convscope as cs
    data = cs.load_data("mnist")
    learner = cs.Learner(data, cs.simple_cnn(), seed=0)
    learner.fit_one_cycle(5, lr_max=0.1)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convscope.version import VERSION as __version__

if TYPE_CHECKING:
    from convscope.arithmetic import conv2d_as_matrix as conv2d_as_matrix
    from convscope.arithmetic import kernels as kernels
    from convscope.arithmetic import receptive_field as receptive_field
    from convscope.arithmetic import summary as summary
    from convscope.data import DataLoaders as DataLoaders
    from convscope.data import load_data as load_data
    from convscope.data import load_ratings as load_ratings
    from convscope.errors import ConvscopeError as ConvscopeError
    from convscope.nn import dot_product as dot_product
    from convscope.nn import rating_net as rating_net
    from convscope.nn import simple_cnn as simple_cnn
    from convscope.nn import small_resnet as small_resnet
    from convscope.tracing import trace as trace
    from convscope.tracing import workbook as workbook
    from convscope.train.activation_stats import ActivationStats as ActivationStats
    from convscope.train.callback import Callback as Callback
    from convscope.train.callback import CancelFit as CancelFit
    from convscope.train.callbacks import EarlyStopping as EarlyStopping
    from convscope.train.learner import Learner as Learner
    from convscope.train.ratings_predict import recommender as recommender
    from convscope.train.recorder import Recorder as Recorder
    from convscope.watch import Watcher as Watcher

# Each public name and the module that defines it; tests/contracts pins the list.
_HOMES = {
    "ActivationStats": "convscope.train.activation_stats",
    "Callback": "convscope.train.callback",
    "CancelFit": "convscope.train.callback",
    "ConvscopeError": "convscope.errors",
    "DataLoaders": "convscope.data",
    "EarlyStopping": "convscope.train.callbacks",
    "Learner": "convscope.train.learner",
    "Recorder": "convscope.train.recorder",
    "Watcher": "convscope.watch",
    "conv2d_as_matrix": "convscope.arithmetic",
    "kernels": "convscope.arithmetic",
    "dot_product": "convscope.nn",
    "load_data": "convscope.data",
    "load_ratings": "convscope.data",
    "rating_net": "convscope.nn",
    "receptive_field": "convscope.arithmetic",
    "recommender": "convscope.train.ratings_predict",
    "simple_cnn": "convscope.nn",
    "small_resnet": "convscope.nn",
    "summary": "convscope.arithmetic",
    "trace": "convscope.tracing",
    "workbook": "convscope.tracing",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
