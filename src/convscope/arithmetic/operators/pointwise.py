"""Activations and arithmetic with constants: functions of one unit, each written out as a formula in float64.

The formulas are those of PyTorch's documentation; arguments have the names of PyTorch's functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convscope.arithmetic.operators.base import Applied, Array, Indices, Inputs, Step
from convscope.records import Node

Formula = Callable[[Array, Mapping[str, Any]], Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))  # the same as 1 / (1 + exp(-x)), without overflow


def _softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    return np.where(x * beta > threshold, x, np.log1p(np.exp(np.minimum(x * beta, threshold))) / beta)


def _elu(x: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Array:
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) * input_scale))


def _gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))


def _clamp(x: Array, low: Any, high: Any) -> Array:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


FORMULAS: dict[str, Formula] = {
    "relu": lambda x, _: np.maximum(x, 0),
    "leaky_relu": lambda x, s: np.where(x > 0, x, x * s["negative_slope"]),
    "_prelu_kernel": lambda x, s: np.where(x > 0, x, x * s["weight"]),
    "prelu": lambda x, s: np.where(x > 0, x, x * s["weight"]),
    "rrelu_with_noise": lambda x, s: np.where(x > 0, x, x * (s["lower"] + s["upper"]) / 2),
    "elu": lambda x, s: _elu(x, float(s["alpha"]), float(s["scale"]), float(s["input_scale"])),
    "celu": lambda x, s: _elu(x, s["alpha"], 1.0, 1 / s["alpha"]),
    "gelu": lambda x, s: _gelu(x, s["approximate"]),
    "silu": lambda x, _: x * _sigmoid(x),
    "mish": lambda x, _: x * np.tanh(_softplus(x)),
    "sigmoid": lambda x, _: _sigmoid(x),
    "log_sigmoid_forward": lambda x, _: -_softplus(-x),
    "tanh": lambda x, _: np.tanh(x),
    "softplus": lambda x, s: _softplus(x, s["beta"], s["threshold"]),
    "hardtanh": lambda x, s: np.clip(x, s["min_val"], s["max_val"]),
    "hardsigmoid": lambda x, _: np.clip(x + 3, 0, 6) / 6,
    "hardswish": lambda x, _: x * np.clip(x + 3, 0, 6) / 6,
    "hardshrink": lambda x, s: np.where(np.abs(x) > s["lambd"], x, 0.0),
    "softshrink": lambda x, s: np.sign(x) * np.maximum(np.abs(x) - s["lambd"], 0),
    "threshold": lambda x, s: np.where(x > s["threshold"], x, s["value"]),
    "clamp": lambda x, s: _clamp(x, s["min"], s["max"]),
    "clamp_min": lambda x, s: _clamp(x, s["min"], None),
    "clamp_max": lambda x, s: _clamp(x, None, s["max"]),
    "abs": lambda x, _: np.abs(x),
    "neg": lambda x, _: -x,
    "exp": lambda x, _: np.exp(x),
    "log": lambda x, _: np.log(x),
    "sqrt": lambda x, _: np.sqrt(x),
    "rsqrt": lambda x, _: 1 / np.sqrt(x),
    "reciprocal": lambda x, _: 1 / x,
    "sin": lambda x, _: np.sin(x),
    "cos": lambda x, _: np.cos(x),
    "pow": lambda x, s: x ** s["exponent"],
}

ARITHMETIC: dict[str, Callable[[Any, Any, float], Any]] = {
    "add": lambda self, other, alpha: self + alpha * other,
    "sub": lambda self, other, alpha: self - alpha * other,
    "rsub": lambda self, other, alpha: other - alpha * self,
    "mul": lambda self, other, _: self * other,
    "div": lambda self, other, _: self / other,
}


class Activation(Step):
    """A function of one unit, by name."""

    def apply(self, node: Node, inputs: Inputs, units: Indices, x: Array) -> Applied:
        """The formula's values; `numbers` are the function's own settings."""
        numbers: dict[str, Any] = {key: value for key, value in node.settings.items() if type(value) in (int, float)}
        numbers |= {key: _at(array, node.values.shape, units) for key, array in node.weights.items() if key != "noise"}
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            value = FORMULAS[node.operation](x, {**node.settings, **numbers})
            return Applied(value, _steepness(x, value), 0.0, numbers)


class Constant(Step):
    """Arithmetic of one activation and a constant: a number, or a tensor such as a scale for each channel."""

    def apply(self, node: Node, inputs: Inputs, units: Indices, x: Array) -> Applied:
        """The result; `numbers` has the constant."""
        data = node.settings["data"][0]
        other = "other" if data == "self" else "self"
        constant = _at(node.weights[other], node.values.shape, units) if other in node.weights else float(node.settings[other])
        alpha = float(node.settings.get("alpha") or 1)
        formula = ARITHMETIC[node.operation]
        value = formula(x, constant, alpha) if data == "self" else formula(constant, x, alpha)
        numbers = {"constant": constant} | ({"alpha": alpha} if alpha != 1 else {})
        if node.operation in ("mul", "div"):
            return Applied(value, _steepness(x, value), 0.0, numbers)
        scale = abs(alpha) if (node.operation == "rsub") == (data == "self") or (data == "other") else 1.0
        return Applied(value, scale, np.abs(value) + np.abs(x), numbers)


def _at(array: Array, shape: tuple[int, ...], units: Indices) -> Array:
    """A broadcast constant at the given units, in float64."""
    return np.asarray(np.broadcast_to(array, shape).reshape(-1)[units], dtype=np.float64)


def _steepness(x: Array, value: Array) -> Array:
    """How many times larger the value is than the input, at least 1: errors of the input can grow that much."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(value / x)
    return np.maximum(np.where(np.isfinite(ratio), ratio, 1.0), 1.0)
