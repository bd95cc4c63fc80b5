"""Tracing: any activation of a network back to the multiplications and pixels that made it."""

from convscope.arithmetic.receptive import receptive_field
from convscope.tracing.effective import EffectiveField, effective_receptive_field
from convscope.tracing.trace import executed, trace, trace_executed, trace_to_pixels, unfold_executed
from convscope.tracing.workbook import workbook

__all__ = [
    "EffectiveField",
    "effective_receptive_field",
    "executed",
    "receptive_field",
    "trace",
    "trace_executed",
    "trace_to_pixels",
    "unfold_executed",
    "workbook",
]
