"""The rule on batch normalisation: too few values to average, or running averages that are not those of the data.

Receives a RunView, returns a Finding or None. Running averages that lag do no harm by themselves; the results on new images must suffer from them.
"""

from __future__ import annotations

import math

from convscope.diagnose.rule import Rule, ev, percent, short
from convscope.diagnose.view import RunView, Threshold, number
from convscope.records import Finding, Fix, Observation, Severity

FEW_VALUES = Threshold(8, "values per channel", "diagnoses.md, row 9")
OLD_SHARE = Threshold(0.1, "of the running average", "chosen: what is left of the starting value, (1 - momentum)^batches", share=True)
HALF_OLD = Threshold(0.5, "of the running average", "chosen: most of it is no average of any data", share=True)
MEAN_GAP = Threshold(1, "standard deviations", "diagnoses.md, row 9")
VARIANCE_RATIO = Threshold(4, "", "diagnoses.md, row 9", excess=True)
GREATEST_MOMENTUM = Threshold(0.5, "of the new batch", "diagnoses.md, row 9", share=True)
WORSE = Threshold(0.1, "of the images", "chosen: three standard deviations of an accuracy over a few hundred images")
MUCH_WORSE = Threshold(0.3, "of the images", "chosen: three times what counts as worse")
FEW_IMAGES = Threshold(3, "images", "chosen: an average over so few differs by half a standard deviation and more")
RIPE = 50  # steps before which running averages are young in every run


def batchnorm_unreliable(view: RunView) -> Finding | None:
    """Batch statistics over a handful of values, or running averages that make validation much worse than training."""
    layers, worse = view.newest("batch_norm"), view.generalisation_gap > view.limit(WORSE)
    images = min((number(o, "rows") for o in view.seen("loss_input") if o.numbers.get("training") is True), default=math.nan)
    if layers and images <= view.limit(FEW_IMAGES) and (view.outcome.bad or view.outcome.poor or worse):
        message = (
            f"Batch normalisation averages over only {images:.0f} images per step, so what it subtracts jumps from step to step and differs from what it "
            "uses for new images."
        )
        fix = Fix("Use more images per step (32 or so), or GroupNorm, which does not depend on the batch.", {"batch_size": 32})
        return _finding(layers[0], "problem", message, fix, view, step=0)
    few = [o for o in layers if number(o, "values", 1e9) < view.limit(FEW_VALUES)]
    if few:
        severity: Severity = "problem" if view.outcome.bad or view.outcome.poor or worse else "warning"
        message = (
            f"Batch normalisation in layer {few[0].subject} averages over only {number(few[0], 'values'):.0f} values per channel, so it "
            "mostly adds noise."
        )
        fix = Fix("Use more images per step, or GroupNorm, which does not depend on the batch.", {"batch_size": 32})
        return _finding(few[0], severity, message, fix, view, step=0)
    old = [o for o in layers if _starting_share(o) > view.limit(OLD_SHARE) and o.step >= RIPE]
    unjudged = not math.isfinite(view.generalisation_gap) and bool(view.seen("validation"))
    mostly_old = unjudged and bool(old) and _starting_share(old[0]) > view.limit(HALF_OLD)
    if old and (worse or mostly_old):
        message = (
            f"The averages that batch normalisation uses for new images still consist to {percent(_starting_share(old[0]))} of their "
            f"starting values, so results on new images {'are far' if worse else 'must be'} worse than in training."
        )
        fix = Fix("Set the momentum of batch normalisation to 0.1, PyTorch's default.")
        return _finding(old[0], "problem" if worse else "warning", message, fix, view)
    if not worse:
        return None
    odd = [o for o in layers if _far(view, o)]
    much_worse = view.generalisation_gap > view.limit(MUCH_WORSE) and odd[:1] == list(
        layers[:1]
    )  # what enters the first one is the images' own
    if odd and (len(odd) * 2 >= len(layers) or much_worse):
        message = (
            f"In layer {odd[0].subject} the averages that batch normalisation uses for new images are "
            f"{short(number(odd[0], 'mean_gap'))} standard "
            "deviations away from those of the batches, so results on new images are far worse than in training."
        )
        fix = Fix(
            "Set the momentum of batch normalisation to 0.1, use more images per step, or train longer before judging.", {"batch_size": 32}
        )
        return _finding(odd[0], "problem", message, fix, view)
    jumpy = [o for o in layers if number(o, "momentum", 0.1) > view.limit(GREATEST_MOMENTUM)]
    if jumpy:
        share = short(number(jumpy[0], "momentum"))
        message = (
            f"In layer {jumpy[0].subject} batch normalisation remembers almost only the last batch (momentum {share}), so results on new "
            "images jump about."
        )
        return _finding(jumpy[0], "warning", message, Fix("Set the momentum of batch normalisation to 0.1, PyTorch's default."), view)
    return None


def _starting_share(o: Observation) -> float:
    """Share of the starting values in the running averages; 0 where it cannot be told."""
    momentum, updates = number(o, "momentum"), number(o, "updates")
    return (1 - momentum) ** updates if 0 < momentum < 1 and updates >= 0 else 0.0


def _far(view: RunView, newest: Observation) -> bool:
    """Whether the last two looks at a layer both found its running averages far from the batch's."""
    looks = [o for o in view.seen("batch_norm", newest.subject) if o.step >= RIPE][-2:]
    far = [number(o, "mean_gap", 0) > view.limit(MEAN_GAP) or number(o, "variance_ratio", 1) > view.limit(VARIANCE_RATIO) for o in looks]
    return len(far) == 2 and all(far)


def _finding(o: Observation, severity: Severity, message: str, fix: Fix, view: RunView, step: int | None = None) -> Finding:
    evidence = (
        ev("values per channel", number(o, "values")),
        ev("momentum", number(o, "momentum")),
        ev("distance of means", number(o, "mean_gap"), "standard deviations"),
        ev("ratio of variances", number(o, "variance_ratio")),
        ev("training accuracy minus validation accuracy", view.generalisation_gap),
    )
    return Finding(
        "batchnorm_unreliable",
        severity,
        o.subject,
        o.step if step is None else step,
        message,
        fix,
        evidence,
        "TheDeepChecker; pytorch issue 5406",
    )


RULES = (Rule("batchnorm_unreliable", batchnorm_unreliable, False, ("batch_norm",)),)
