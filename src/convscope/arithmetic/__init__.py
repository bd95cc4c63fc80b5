"""Convolution as arithmetic: what each operator does to one unit, and the sizes, costs and receptive fields that follow."""

from convscope.arithmetic.execution import execute
from convscope.arithmetic.summary import summary

__all__ = ["execute", "summary"]
