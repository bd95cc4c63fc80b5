"""The answers: for each question a function without arguments that runs what it is about and returns an Outcome.

Words stand in questions.toml, numbers come from here; `convscope.quiz.demonstrate` brings them together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from convscope.quiz.answers import kernels, networks, norms, training
from convscope.quiz.records import Outcome

ANSWERS: dict[int, Callable[[], Outcome]] = {
    1: kernels.feature,
    2: kernels.detects_top_edges,
    3: kernels.one_pixel,
    4: kernels.on_zeros,
    5: kernels.padding,
    6: kernels.stride,
    7: networks.nested_comprehension,
    8: networks.weight_shape,
    9: networks.channel,
    10: kernels.as_matrix,
    11: networks.learned_kernels,
    12: networks.refactored,
    13: networks.flatten,
    14: networks.axes,
    15: networks.multiplications,
    16: networks.field_of_activation,
    17: networks.field_size,
    18: networks.precedents,
    19: lambda: Outcome({}, holds=True),  # an invitation, not a question of fact
    20: networks.colour_tensor,
    21: kernels.colour,
    22: networks.shown_batch,
    23: networks.doubled_filters,
    24: training.larger_kernel,
    25: training.kept_statistics,
    26: networks.callback_name,
    27: training.layer_plot,
    28: training.near_zero,
    29: training.batch_size,
    30: training.high_at_the_start,
    31: training.one_cycle,
    32: training.high_rate,
    33: training.low_at_the_end,
    34: training.cyclical_momentum,
    35: training.recorded,
    36: training.column,
    37: training.bad_training,
    38: norms.trained_parameters,
    39: norms.statistics,
    40: training.noise,
}


@cache
def outcome_of(number: int) -> Outcome:
    """Run the answer of a question, once in this process."""
    return ANSWERS[number]()
