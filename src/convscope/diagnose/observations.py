"""The kinds of observation that the rules read: data, not code.

The watcher makes observations (`convscope.watch`), the rules read them, and this table is what both agree on. An observation is either a fact
seen once ("network"), or a running count that is written again at the steps of `SCHEDULE`, so that the newest one of a kind and subject holds
the whole story; a log therefore holds a number of observations that grows with the logarithm of the number of steps.
This module decides nothing and imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObservationKind:
    """One kind of observation.

    Attributes:
        name: `Observation.kind`.
        subject: what `Observation.subject` names.
        numbers: each number's name and meaning (with its unit).
        made: when the watcher makes it.
        missing: why a rule that needs it could not be applied, when there is none.
    """

    name: str
    subject: str
    numbers: dict[str, str]
    made: str
    missing: str


KINDS: tuple[ObservationKind, ...] = (
    ObservationKind(
        "network",
        "",
        {
            "outputs": "size of axis 1 of the network's output, None when it has none",
            "weights": "number of single weights",
            "trainable": "of these, those that require a gradient",
            "head": "name of the last layer with weights that the output depends on",
            "head_trainable": "whether any of its weights requires a gradient",
            "frozen_fresh": "share of the frozen weights that still look freshly drawn (uniform or normal), None when none is frozen",
            "batch_norms": "number of batch normalisation layers",
            "dropouts": "number of dropout layers with p > 0",
            "dropout": "the greatest dropout probability",
            "pairs": "pairs of weighted layers where one feeds the next",
            "linear_pairs": "of these, those with nothing but linear operations between",
            "active_pairs": "of these, those with an activation function between (max pooling alone is neither)",
            "linear_pair": "names of the first two weighted layers without an activation between",
            "softmax_over_batch": 'where a softmax runs along axis 0 over as many numbers as there are samples ("the answer", "between"), '
            'or along an axis of size 1 ("one number"); else None',
        },
        "once, after the first training pass",
        "no training pass of the network was seen",
    ),
    ObservationKind(
        "optimizer",
        "number of the optimiser, in the order of their first steps",
        {
            "kind": "class name",
            "lr": "learning rate of the first group",
            "weight_decay": "weight decay of the first group",
            "decoupled": "whether the decay is applied to the weights directly (AdamW) instead of through the gradient",
            "held": "share of the network's trainable weights that any optimiser seen so far holds",
            "foreign": "share of this optimiser's own weights that are not the network's",
            "head_held": "whether the last layer's weights are held",
            "missing": "names of the first layers that no optimiser holds",
            "missing_fresh": "share of the trainable weights that no optimiser holds and that still look freshly drawn, None when all are held",
        },
        "at each optimiser's first step",
        "no optimiser took a step",
    ),
    ObservationKind(
        "turns",
        "",
        {},
        "once, when optimisers have taken turns several times, each alone in its steps",
        "the optimisers do not take turns",
    ),
    ObservationKind(
        "strays",
        "",
        {
            "weights": "trainable weights that the network uses without holding them (layers in a plain list), that have a gradient and never move",
            "share": "of these and the network's own trainable weights",
            "shapes": "of the first of them",
            "fresh": "share of them that still looks freshly drawn",
        },
        "at steps 20 and 100, when there are any",
        "every weight in use belongs to the network",
    ),
    ObservationKind(
        "gradient_carry",
        "the parameter looked at",
        {
            "checked": "first backward passes after an optimiser step",
            "carried": "of these, those that began with the old gradient still there",
            "streak": "the last consecutive ones",
            "since": "step of the first of the streak",
            "began": "step of the first one of all, None when there is none",
        },
        "at the scheduled steps",
        "no parameter was seen through two optimiser steps",
    ),
    ObservationKind(
        "updates",
        "",
        {
            "checked": "optimiser steps with a learning rate above zero that were looked at",
            "still": "of these, the last consecutive ones in which most weights had a gradient and did not move",
            "still_share": "share of the weights with a gradient that did not move, at the last look",
            "ungraded": "the last consecutive looks at which more than half of the trainable weights had no gradient",
            "no_gradient": "share of the trainable weights without any gradient, at the last look",
            "still_layers": "names of the first layers that did not move",
            "passes": "backward passes so far",
            "undone": "the last consecutive looks after which hardly anything of the step was left when the next one began",
            "surviving": "share of the step that was left then, at the last look",
            "put_back": "the last consecutive evaluations after which hardly anything was left of the steps since the one before",
            "left": "share of those steps' work that was left, at the last such evaluation",
            "steps_between": "how many steps those were",
            "rounded": "the last consecutive looks in which most single weights with a gradient stayed as they were, held in coarse numbers",
            "rounded_share": "share of the single weights with a gradient that stayed so, at the last look",
            "ungraded_layers": "names of the first layers without a gradient, at the last look",
            "ungraded_fresh": "share of the weights without a gradient that looked freshly drawn at the fifth look in a row",
            "erased": "the last consecutive looks at which a gradient had come since the step before and was gone, or zero, at the step",
        },
        "at the scheduled steps",
        "no optimiser step was looked at",
    ),
    ObservationKind(
        "idle",
        "",
        {
            "frozen": "share of the network's weights that require no gradient and have stayed as they are",
            "frozen_late": "of the network's weights, those frozen after the first look",
            "frozen_since": "step of the look that first found one of them frozen, None when none is",
            "frozen_head": "whether the last layer's weights are frozen",
            "frozen_layers": "names of the first layers frozen after the first look",
            "left_out": "share of the network's weights that have a gradient, are in no optimiser and have stayed as they are",
            "left_out_late": "of the network's weights, those left out after the first look",
            "fresh": "of these, those that looked freshly drawn then, as a share of the network's weights",
            "left_out_since": "step of the look that first found one of them left out, None when none is",
            "left_out_head": "whether the last layer's weights are left out",
            "in_vain": "names of frozen modules on which requires_grad = True was set, which does not reach their weights",
            "left_out_layers": "names of the first layers left out after the first look",
        },
        "at the scheduled steps at which something of it has changed",
        "no optimiser step was looked at",
    ),
    ObservationKind(
        "unstepped",
        "",
        {
            "passes": "backward passes, while no optimiser of this network has stepped",
            "moved": "whether its weights are others than at the first pass",
            "fresh": "share of its trainable weights that still looks freshly drawn",
        },
        "at the end, when no optimiser of this network has stepped",
        "an optimiser took a step",
    ),
    ObservationKind(
        "modes",
        "",
        {
            "train_passes": "passes that were followed by a backward pass",
            "train_in_eval": "of these, those in steps wholly with the network in evaluation mode, while it has batch norm or dropout",
            "train_in_eval_streak": "the last consecutive steps of that kind",
            "train_in_eval_since": "step of the first of the streak",
            "eval_passes": "passes without a backward pass, after the first step",
            "evaluations": "runs of such passes between training steps",
            "eval_in_train": "of these, those on images not trained on while batch norm or the whole network was in training mode",
            "eval_in_train_since": "step of the first",
            "inner_in_train": "evaluation passes among them in which the network's own flag said evaluation, and only layers inside it were in training mode",
            "asked_again": "of the evaluation passes in training mode, those on samples that were evaluated in it just before",
            "batch_norm_in_train": "whether batch norm layers were in training mode in the last of these",
            "norm_on_new": "of these, those with batch norm in training mode",
            "norm_on_known": "passes without a backward pass on images trained on, with batch norm in training mode",
            "dropped": "of those on new images, those in which dropout was called as a function and dropped, in a network in evaluation mode",
        },
        "at the scheduled steps and after each evaluation",
        "no pass of the network was seen",
    ),
    ObservationKind(
        "loss_input",
        'the loss function, such as "cross_entropy"',
        {
            "training": "whether it belongs to a training pass",
            "rows": "images in the batch",
            "classes": "size of axis 1, None for a vector",
            "row_sum_gap": "greatest distance of a row's sum from 1",
            "column_sum_gap": "greatest distance of a column's sum from 1",
            "log_gap": "greatest distance of a row's sum of exponentials from 1",
            "log_column_gap": "the same for columns",
            "lowest": "smallest value",
            "highest": "largest value",
            "zeros": "share of values that are exactly 0",
            "target": '"index", "probability" (rows of class shares), "whole" (floating point whole numbers) or "real"',
            "target_lowest": "smallest target",
            "target_highest": "largest target",
            "target_mean": "mean target",
            "shapes": "shape of input and target, as text",
            "same_shape": "whether these are equal",
            "made_by": 'the operation that computed the input, such as "Addmm" or "Sigmoid"',
            "log_input": "poisson_nll_loss: whether the input is taken for a logarithm; else None",
            "loss": "the loss as the loop computes it",
            "plain_binary_loss": "mean cross-entropy in nats of yes-or-no answers, whatever the loop's reduction and weights; None for other losses",
            "heaviest": "the class to which it gives the greatest weight, None without weights",
            "weight_ratio": "the greatest weight that the loss gives a class over the least; 1 without weights",
            "plain_loss": "cross-entropy in nats per image, whatever the loop's reduction and weights; None for other losses",
        },
        "at the scheduled steps, when a loss of torch.nn.functional or torch.nn is called on the network's output",
        "the loss was not computed by a function of torch.nn.functional or a module of torch.nn, so its input could not be seen",
    ),
    ObservationKind(
        "input",
        'the channel, such as "channel 0"',
        {
            "mean": "mean of the looked-at pixels",
            "std": "their standard deviation",
            "lowest": "smallest",
            "highest": "largest",
            "samples": "pixels looked at",
            "network": "name of the network's first weighted layer",
            "normalised_inside": "whether a normalisation layer comes before the first weighted layer",
        },
        "in the first training passes",
        "the network's input is not a batch of floating point images",
    ),
    ObservationKind(
        "labels",
        "",
        {
            "batches": "training batches whose labels were seen",
            "batch_size": "their mean size",
            "classes": "labels that occurred at least once",
            "entropy": "entropy of all labels seen, in nats",
            "batch_entropy": "mean entropy of the labels of one batch, in nats",
            "largest_share": "share of the most frequent label",
            "largest_class": "the most frequent label",
        },
        "at the scheduled steps, when labels are seen by a loss",
        "no loss that takes class numbers was seen, so the labels are unknown",
    ),
    ObservationKind(
        "fit",
        "",
        {
            "samples": "training images in this window",
            "accuracy": "share answered with their label",
            "wrong": "number not answered with their label",
            "second_choice": "of the wrong ones, the share whose label was the network's second choice",
            "largest_answer": "share of the most frequent answer",
            "classes": "number of possible answers",
            "mixed": "passes so far whose answers were compared with several labels each",
        },
        "at the scheduled steps: the window since the one before",
        "no loss that takes class numbers was seen, so right and wrong answers are unknown",
    ),
    ObservationKind(
        "penalty",
        "",
        {
            "of": "what the loss sums up: the weights' squares, sizes or (the length of each weight, or of several together) norms",
            "sum": "of these",
            "weights": "how many single weights that are",
            "loss": "what backward was called on: the comparison with the labels and all that was added to it",
        },
        "at the first three steps, and then at the scheduled ones, when the loss holds weights besides the network's output",
        "the loss holds no weights besides the network's output",
    ),
    ObservationKind(
        "amounts",
        "",
        {
            "samples": "training samples in this window",
            "error": "mean squared error of their answers, before their steps",
            "mean": "of all training targets so far",
            "variance": "of all training targets so far, averaged over columns",
            "batch_variance": "the same within one batch, averaged over batches",
        },
        "at the scheduled steps: the window since the one before",
        "the answers were not seen to be compared with amounts, so nothing is known of the targets",
    ),
    ObservationKind(
        "validation",
        "",
        {
            "samples": "samples without a backward pass since the last training step, in batches that were not wholly trained on where there are such",
            "loss": "their mean loss, None when it is not known",
            "training_loss": "without labels of classes: mean of the same loss in the training passes since the last evaluation, else None",
            "accuracy": "share answered with their label, None when no labels were seen by a loss or by a comparison with the answers",
            "largest_answer": "share of the most frequent answer",
            "largest_label": "share of the most frequent label, None when no labels were seen",
            "explained": "without labels of classes: share of the targets' variance that the answers explain (1 - squared error / variance), None when unknown",
            "in_training": "share of these samples that were also trained on (exactly equal numbers)",
            "leaked": "the same in batches that are known in part only, once all training samples have been seen",
            "coverage": "different evaluated samples that were trained on, over different training samples",
        },
        "at the end of each evaluation",
        "no validation pass was seen",
    ),
    ObservationKind(
        "identity",
        "",
        {
            "train_images": "training images looked at",
            "duplicates": "share of training images that occur twice in their own batch",
            "repeated_batches": "share of training batches equal to the one before",
            "order_repeats": "training batches that came in the same order as in the first epoch",
            "epoch_batches": "batches after which the first batch came again, None when it never did",
            "epochs": "how often each different training sample was seen, on average",
            "axes": "axes of a batch: 4 for images, 2 for rows of a table; None when unknown",
            "bits": "information in one sample at most: values x log2 of the different ones; None when unknown",
        },
        "at the scheduled steps",
        "the network's input is not a batch of samples",
    ),
    ObservationKind(
        "batch_norm",
        "the layer",
        {
            "values": "values per channel in one batch",
            "momentum": "share of the new batch in the running statistics (None: plain average)",
            "updates": "batches averaged so far",
            "mean_gap": "median over channels of |running mean - batch mean| / batch standard deviation",
            "variance_ratio": "median over channels of max(running, batch) / min(running, batch) variance",
        },
        "at the scheduled steps, in training passes",
        "the network has no batch normalisation in training mode",
    ),
    ObservationKind(
        "unseen_loss",
        "",
        {},
        "once, at the first step whose loss was not seen",
        "",
    ),
    ObservationKind(
        "loss_graph",
        "",
        {
            "found": "whether the network's output was found in the graph that backward was called on",
            "classes": "size of axis 1 of the output, None when it is no table",
            "softmax_twice": "whether a softmax takes the result of another one, at the end of the network",
            "softmax_across": "whether labels pick along another axis than that of the softmax on the output",
            "softmax_over_batch": "whether a softmax at the end of the network, or on its output, runs along the batch",
            "broadcast": "whether the network's n answers became n times n numbers before they were averaged",
        },
        "at the first three steps",
        "the graph between the network's output and the loss could not be read",
    ),
    ObservationKind(
        "filters",
        "the layer",
        {
            "identical": "share of looked-at filters equal to the first one",
            "filters": "filters looked at",
            "inputs": "channels that each filter sees",
            "fan_in": "weights in each filter",
            "largest": "largest weight in size",
            "rms": "root mean square of the looked-at weights",
            "still_moving": "whether the weights have moved since the first look",
            "together": "share of these filters that have moved, and stayed with the first one up to a thousandth of the way",
        },
        "at steps 0, 4, 20 and 100",
        "no weights were looked at twice",
    ),
    ObservationKind(
        "non_finite",
        '"input" (what layers, loss and gradients hold is in their own records)',
        {},
        "once, at the first training pass with a pixel that is not a number or infinite",
        "",
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def scheduled(step: int) -> bool:
    """Whether observations are written after this step.

    Dense where exact faults must be named within five steps, then ever sparser: every step up to 8, every 10th up to 200, every 50th up to
    1,000, then whenever the step has grown by a twentieth (about 190 times in the first million steps).

    Example:
        >>> [step for step in range(45) if scheduled(step)]
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 30, 40]
    """
    if step <= 8:
        return True
    if step <= 200:
        return step % 10 == 0
    if step <= 1000:
        return step % 50 == 0
    gap = 50 << max(0, (step // 1000).bit_length() - 1)  # a power of two times 50, about a twentieth of the step
    return step % gap == 0
