"""Observations about the loss: what it receives, the labels, and how many answers are right.

Receives LossCalls; makes "loss_input" observations and, for each pass of the network, an Answers tensor that the pass keeps until it is known whether
it was training or evaluation. Nothing is copied to the host here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from convscope.records import Observation
from convscope.watch.deferred import Deferred, Numbers
from convscope.watch.graph_facts import operation
from convscope.watch.loss_spy import LossCall

MOST_ROWS = 1024  # of a batch, looked at
MOST_CLASSES = 1000  # counted one by one
MOST_KEPT = 1 << 14  # scores of one batch that are kept until they are counted (64 KiB)
REARRANGING = frozenset(
    {
        "Select",
        "Squeeze",
        "Unsqueeze",
        "View",
        "UnsafeView",
        "Reshape",
        "ReshapeAlias",
        "Permute",
        "Transpose",
        "T",
        "Slice",
        "Alias",
        "Clone",
    }
)
SHARES_GAP = 1e-3  # of the sum of a row of shares
HUGE = 1e9  # distances beyond it say nothing more
UNJUDGED = frozenset(  # their targets (another network's answer, amounts, whether two images belong together) say nothing of right and wrong answers
    {"kl_div", "poisson_nll_loss", "hinge_embedding_loss", "soft_margin_loss", "cosine_embedding_loss", "margin_ranking_loss"}
)
YES_OR_NO = {"binary_cross_entropy_with_logits": 0.0, "binary_cross_entropy": 0.5}  # value above which one output means yes


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network answered to one batch, on the device.

    Attributes:
        codes: bits of the batch's loss (float64); then each image's answer; its label, negative when it does not count; and how many classes
            had a higher score than the label. Or a function that counts so.
        labels: int64, shape (samples).
        classes: number of possible answers.
    """

    codes: Tensor | Callable[[], Tensor]
    labels: Tensor
    classes: int

    @classmethod
    def of(cls, loss: Tensor, scores: Tensor, labels: Tensor) -> Answers:
        """The answers that scores of shape (samples, classes) give.

        Counting right after a training step's convolutions takes ten times as long as counting many batches together, when the code is in the
        processor's cache; so small tables of scores are kept until somebody counts.
        """
        if scores.numel() > MOST_KEPT:
            return cls(_codes(loss, scores, labels), labels, scores.shape[1])
        labels = labels.clone()
        return cls(functools.partial(_codes, loss, scores.clone(), labels), labels, scores.shape[1])


def answers(call: LossCall) -> Answers | None:
    """The answers, when input and target are those of a classification; else None."""
    if call.name in UNJUDGED:
        return None
    two_sided = call.name in YES_OR_NO
    scores = _rows(call.input[:, None] if two_sided and call.input.ndim == 1 else call.input)
    if scores is None or call.target.ndim == 0:
        return None
    target = call.target.detach()[:MOST_ROWS]
    if not target.is_floating_point() and target.ndim == 1 and scores.shape[1] > 1:
        labels = target.long()
    elif two_sided and scores.shape[1] == 1 and target.numel() == scores.shape[0]:
        scores = torch.cat([torch.zeros_like(scores), scores - YES_OR_NO[call.name]], 1)
        labels = (target.reshape(-1) > 0.5).long()
    elif target.shape == scores.shape and scores.shape[1] > 1 and call.name != "cross_entropy":
        labels = target.argmax(1)
    else:
        return None
    return Answers.of(call.result.detach().mean(dtype=torch.float64), scores, labels)


def holds_shares(targets: Tensor) -> bool:
    """Whether targets are shares of classes that sum to 1, one column each, as one-hot labels are. This waits for the device."""
    rows = targets.detach()[:MOST_ROWS]
    if rows.ndim != 2 or rows.shape[1] < 2 or not rows.numel():
        return False
    return bool((rows >= 0).all() & ((rows.sum(1) - 1).abs() < SHARES_GAP).all())


def _rows(scores: Tensor) -> Tensor | None:
    """One row of scores per sample; None where there is no such thing, or too many classes to count."""
    scores = scores.detach()[:MOST_ROWS]
    if scores.ndim > 2 and scores.shape[2:].numel() == 1:
        scores = scores.flatten(1)
    return scores if scores.ndim == 2 and 1 <= scores.shape[1] <= MOST_CLASSES and scores.shape[0] else None


def _codes(loss: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    own = scores.gather(1, labels.clamp(0, scores.shape[1] - 1)[:, None])  # ignore_index is negative
    return torch.cat([loss.double().reshape(1).view(torch.int64), scores.argmax(1), labels, (scores > own).sum(1)])


# ---------------------------------------------------------------- answers that a loop compares with labels itself

CUTS = (0.0, 0.5)  # above which one output means yes: a raw score, or a probability


def choices(output: Tensor) -> Tensor | None:
    """The class that each sample is given; None for an output that does not choose."""
    scores = output.detach()
    if scores.ndim > 2 and scores.shape[2:].numel() == 1:
        scores = scores.flatten(1)
    if scores.ndim == 1:
        return (scores > 0).long()
    if scores.ndim != 2 or not 1 <= scores.shape[1] <= MOST_CLASSES or scores.shape[0] == 0:
        return None
    return scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).long()


def compared_answers(output: Tensor, one: Tensor, two: Tensor, *, cross_entropy: bool) -> Answers | None:
    """The answers of one pass, when one of two compared tensors holds the classes that the output chooses; the other one then holds the labels.

    Args:
        output: of the pass: scores of shape (samples, classes), (samples, 1) or (samples).
        one: what was compared, one value per sample.
        two: with what, of the same shape.
        cross_entropy: whether cross-entropy is the loss of training, so that it is known for these samples too.
    """
    scores = _rows(output[:, None] if output.ndim == 1 else output)
    if scores is None:
        return None
    tables = [scores] if scores.shape[1] > 1 else [torch.cat([torch.zeros_like(scores), scores - cut], 1) for cut in CUTS]
    for table in tables:
        labels = _labels(table.argmax(1), table.shape[1], one, two)
        if labels is None:
            continue
        own = table.gather(1, labels.clamp(0, table.shape[1] - 1)[:, None])[:, 0]
        counts = labels >= 0
        losses = (table.logsumexp(1) - own)[counts]
        loss = losses.double().mean() if cross_entropy and scores.shape[1] > 1 else torch.full((), float("nan"), device=table.device)
        return Answers.of(loss, table, labels)
    return None


def compared_choices(chosen: Tensor, one: Tensor, two: Tensor) -> Answers | None:
    """The same for the answers of several passes, kept together by the loop; their scores are gone, so the loss is unknown."""
    classes = int(torch.maximum(chosen.amax(), torch.maximum(one.amax(), two.amax()).long())) + 1
    labels = _labels(chosen, classes, one, two) if classes <= MOST_CLASSES else None
    if labels is None:
        return None
    loss = torch.full((1,), float("nan"), dtype=torch.float64, device=chosen.device).view(torch.int64)
    return Answers(torch.cat([loss, chosen, labels, torch.zeros_like(labels)]), labels, max(2, classes))


def _labels(chosen: Tensor, classes: int, one: Tensor, two: Tensor) -> Tensor | None:
    """That of two compared tensors which does not hold the chosen classes, when the other one does and it holds classes."""
    first, second = (values.detach().reshape(-1)[: len(chosen)].to(chosen.device) for values in (one, two))
    for said, labels in ((first, second), (second, first)):
        fits = (said == chosen).all() & (labels == labels.long()).all() & (labels < classes).all()
        if bool(fits):  # the loop is about to read the result of its comparison as well
            return labels.long()
    return None


def _maker(values: Tensor) -> str | None:
    """The operation that computed a tensor, such as "Sigmoid"; operations that only choose or rearrange are passed over."""
    node = values.grad_fn
    while node is not None and operation(node) in REARRANGING and node.next_functions:
        node = node.next_functions[0][0]
    return operation(node) if node is not None else None


def look_at_loss_input(call: LossCall, step: int, deferred: Deferred, emit: Callable[[Observation], None]) -> None:
    """Measure what a loss received, and emit it as a "loss_input" observation when it is read."""
    values, target = call.input.detach(), call.target.detach()
    if not values.is_floating_point() or values.numel() == 0 or target.numel() == 0:
        return
    if call.name == "kl_div" and values.ndim != 2:  # which axis holds the classes is not known
        return
    rows = values.movedim(1, -1).reshape(-1, values.shape[1]) if values.ndim > 2 else values.reshape(len(values) if values.ndim else 1, -1)
    same_shape = values.shape == target.shape
    columns_whole = values.ndim == 2 and len(values) <= MOST_ROWS
    rows, aims = rows[:MOST_ROWS].float(), target.reshape(-1)[: MOST_ROWS * 16].float()
    with torch.no_grad():
        powers = rows.exp()
        zero = torch.zeros((), device=rows.device)
        figures = torch.stack(
            [
                rows.amin(),
                rows.amax(),
                (rows.sum(1) - 1).abs().amax(),
                (rows.sum(0) - 1).abs().amax() if columns_whole else zero + HUGE,
                (powers.sum(1) - 1).abs().amax(),
                (powers.sum(0) - 1).abs().amax() if columns_whole else zero + HUGE,
                (rows == 0).float().mean(),
                aims.amin(),
                aims.amax(),
                (aims == aims.round()).all().float(),
                (target.float().reshape(len(rows), -1).sum(1) - 1).abs().amax()
                if same_shape and values.ndim == 2 and columns_whole
                else zero + HUGE,
                call.result.detach().float().mean(),
                _plain_loss(call, rows, target) if values.ndim == 2 else zero + HUGE,
                _weight_ratio(call.weight) if call.weight is not None else zero + 1,
                _heaviest(call.weight) if call.weight is not None else zero - 1,
                target.float().mean(),
                _plain_binary_loss(call) if call.name in YES_OR_NO and same_shape else zero + HUGE,
            ]
        ).nan_to_num(nan=HUGE, posinf=HUGE, neginf=-HUGE)
    facts: dict[str, float | int | str | bool | None] = {
        "training": call.input.requires_grad and torch.is_grad_enabled(),
        "rows": int(values.shape[0]) if values.ndim else 1,
        "classes": int(values.shape[1]) if values.ndim >= 2 else None,
        "shapes": f"{_shape(values)} and {_shape(target)}",
        "same_shape": same_shape,
        "made_by": _maker(call.input),
        "log_input": call.log_input,
    }
    name, index = call.name, not target.is_floating_point()  # the closure keeps no tensor alive

    def receive(numbers: Numbers) -> None:
        (
            low,
            high,
            row,
            column,
            log_row,
            log_column,
            zeros,
            aim_low,
            aim_high,
            whole,
            aim_row,
            loss,
            plain,
            weights,
            heaviest,
            aim_mean,
            binary,
        ) = numbers
        kind = "index" if index else "probability" if aim_row < 1e-3 and aim_low >= 0 else "whole" if whole else "real"
        emit(
            Observation(
                step,
                "loss_input",
                name,
                {
                    **facts,
                    "row_sum_gap": row,
                    "column_sum_gap": column,
                    "log_gap": log_row,
                    "log_column_gap": log_column,
                    "lowest": low,
                    "highest": high,
                    "zeros": zeros,
                    "target": kind,
                    "target_lowest": aim_low,
                    "target_highest": aim_high,
                    "target_mean": aim_mean,
                    "loss": loss,
                    "plain_loss": plain if abs(plain) < HUGE else None,
                    "plain_binary_loss": binary if abs(binary) < HUGE else None,
                    "weight_ratio": weights,
                    "heaviest": int(heaviest) if heaviest >= 0 else None,
                },
            )
        )

    deferred.add(figures, receive)


def _weight_ratio(weight: Tensor) -> Tensor:
    """The greatest weight of a class over the least; a single one weighs one answer against another that counts once."""
    weight = weight.detach().float().reshape(-1)
    if len(weight) == 1:
        return torch.maximum(weight, 1 / weight)[0]
    return weight.amax() / weight.amin()


def _heaviest(weight: Tensor) -> Tensor:
    """The class that counts most; of a single weight, yes (1) or no (0)."""
    weight = weight.detach().float().reshape(-1)
    return (weight[0] > 1).float() if len(weight) == 1 else weight.argmax().float()


def _plain_loss(call: LossCall, rows: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in nats per image, whatever reduction and weights the loop uses; HUGE where the target is not one class per image."""
    if call.name not in ("cross_entropy", "nll_loss") or target.is_floating_point() or target.ndim != 1:
        return rows.new_tensor(HUGE)
    labels = target[: len(rows)].long()
    chosen = rows.gather(1, labels.clamp(0, rows.shape[1] - 1)[:, None])[:, 0]
    losses = -chosen if call.name == "nll_loss" else rows.logsumexp(1) - chosen
    valid = (labels >= 0).float()
    return (losses * valid).sum() / valid.sum().clamp(min=1)


def _plain_binary_loss(call: LossCall) -> Tensor:
    """Mean cross-entropy in nats of yes-or-no answers, whatever reduction and weights the loop uses."""
    values, target = call.input.detach().float(), call.target.detach().float()
    if call.name == "binary_cross_entropy":
        return -(target * values.log().clamp(min=-100) + (1 - target) * (1 - values).log().clamp(min=-100)).mean()  # PyTorch's own bound
    return (softplus(values) - values * target).mean()


def _shape(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "1"
