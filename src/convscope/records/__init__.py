"""Frozen dataclasses that cross stages: what is measured, found, summarised and traced.

Stages never call back: watching, training and tracing fill these records; diagnosis and drawing read them.
Everything here turns into JSON (`to_json`) and back (`from_json`), with a schema number. There is no torch here, and no behaviour
beyond merging: two records of adjacent spans of steps merge into one, so that a log of any length is kept in bounded space.
"""

from convscope.records.findings import LOSS_UNSEEN, Evidence, Finding, Fix, NotChecked, Observation, Severity, Verdict
from convscope.records.networks import Box, ModuleCall, Network, Node, ReceptiveField
from convscope.records.plain import SCHEMA, dump, from_json, to_json
from convscope.records.ratings import RatedItem, RatingsEvaluation, RatingTrace, SurprisingRating
from convscope.records.results import (
    DataSummary,
    EpochRecord,
    Evaluation,
    LayerRow,
    NetworkSummary,
    SampleImage,
    SkippedFile,
    shares,
    text_table,
)
from convscope.records.statistics import NEAR_ZERO, Histogram, LayerStats, Range, StepRecord, bin_edges, merge_moments
from convscope.records.traces import MOST_TERMS_SHOWN, Term, Trace, TraceStep

__all__ = [
    "LOSS_UNSEEN",
    "MOST_TERMS_SHOWN",
    "NEAR_ZERO",
    "SCHEMA",
    "Box",
    "DataSummary",
    "EpochRecord",
    "Evaluation",
    "Evidence",
    "Finding",
    "Fix",
    "Histogram",
    "LayerRow",
    "LayerStats",
    "ModuleCall",
    "Network",
    "NetworkSummary",
    "Node",
    "NotChecked",
    "Observation",
    "Range",
    "RatedItem",
    "RatingTrace",
    "RatingsEvaluation",
    "ReceptiveField",
    "SampleImage",
    "Severity",
    "SkippedFile",
    "StepRecord",
    "SurprisingRating",
    "Term",
    "Trace",
    "TraceStep",
    "Verdict",
    "bin_edges",
    "dump",
    "from_json",
    "merge_moments",
    "shares",
    "text_table",
    "to_json",
]
