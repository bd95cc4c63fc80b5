"""Diagnosis: records in, findings out, without torch.

view.py          what a rule looks at, and the run's outcome
observations.py  the kinds of observation, as data
rule.py          what a rule is
rules/           the rules, each a pure function from a view to a Finding or None
ranking.py       causes before consequences
changes.py       what a machine may change
verdict.py       all rules asked: `diagnose`, `diagnose_log`, `verdict_to_json`
"""

from __future__ import annotations

from convscope.diagnose.verdict import NAMES, RULES, diagnose, diagnose_log, verdict_to_json

__all__ = ["NAMES", "RULES", "diagnose", "diagnose_log", "verdict_to_json"]
