"""A verdict as lines of text for a terminal. Receives a Verdict, returns text; judges nothing."""

from __future__ import annotations

from convscope.records import Evidence, Finding, Verdict

HEADLINES = {
    "healthy": "Nothing wrong was found",
    "note": "Nothing is wrong, but something is worth knowing",
    "warning": "Something may be wrong",
    "problem": "Something is wrong",
    "too_early": "It is too early to say",
}


def verdict_text(verdict: Verdict) -> str:
    """The verdict as text: one paragraph for each finding, then what was not checked.

    Args:
        verdict: findings in the order in which they are shown; a consequence is indented below its cause.
    """
    lines = [f"{HEADLINES[verdict.verdict]} ({verdict.steps:,} steps)."]
    for finding in verdict.findings:
        lines += ["", *_paragraph(finding)]
    if verdict.not_checked:
        lines += ["", "Not checked:"]
        reasons: dict[str, list[str]] = {}
        for item in verdict.not_checked:
            reasons.setdefault(item.why, []).append(item.name)
        lines += [f"  {', '.join(names)}: {why}" for why, names in reasons.items()]
    return "\n".join(lines)


def _paragraph(finding: Finding) -> list[str]:
    indent = "    " if finding.cause else ""
    where = f" in {finding.where}" if finding.where else ""
    lines = [f"{finding.severity}: {finding.name}{where}, since step {finding.step}", f"  {finding.message}"]
    if finding.evidence:
        lines.append(f"  Evidence: {'; '.join(map(_number, finding.evidence))}.")
    lines.append(f"  What to do: {finding.fix.text}")
    if finding.cause:
        lines.append(f"  It follows from {finding.cause}.")
    return [indent + line for line in lines]


def _number(evidence: Evidence) -> str:
    value = f"{evidence.value:.4g}" if isinstance(evidence.value, float) else str(evidence.value)
    return f"{evidence.name} {value}{' ' + evidence.unit if evidence.unit else ''}"
