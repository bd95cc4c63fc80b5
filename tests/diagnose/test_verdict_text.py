"""A verdict as it is printed, whole."""

from __future__ import annotations

from convscope.records import Evidence, Finding, Fix, NotChecked, Verdict


def test_a_verdict_is_printed_cause_before_consequence() -> None:
    cause = Finding(
        "lr_too_high",
        "problem",
        "",
        20,
        "The steps are too large for the network to learn.",
        Fix("Train with a learning rate of 0.03.", {"lr": 0.03}),
        (Evidence("update/weight", 0.0512345, ""), Evidence("loss now", 2.303, "nats")),
    )
    consequence = Finding(
        "dead_units", "warning", "0.1", 1024, "Half of the units never answer.", Fix("Lower the learning rate."), cause="lr_too_high"
    )
    unchecked = (NotChecked("overfitting", "no validation was seen"), NotChecked("label_noise", "no validation was seen"))
    assert str(Verdict("problem", 1170, (cause, consequence), unchecked)) == (
        "Something is wrong (1,170 steps).\n"
        "\n"
        "problem: lr_too_high, since step 20\n"
        "  The steps are too large for the network to learn.\n"
        "  Evidence: update/weight 0.05123; loss now 2.303 nats.\n"
        "  What to do: Train with a learning rate of 0.03.\n"
        "\n"
        "    warning: dead_units in 0.1, since step 1024\n"
        "      Half of the units never answer.\n"
        "      What to do: Lower the learning rate.\n"
        "      It follows from lr_too_high.\n"
        "\n"
        "Not checked:\n"
        "  overfitting, label_noise: no validation was seen"
    )


def test_what_was_not_seen_of_the_loss_is_said_in_the_first_line() -> None:
    unseen = (NotChecked("lr_too_high", "the training loss was not seen"), NotChecked("one_class", "no labels"))
    assert (
        Verdict("too_early", 400, (), unseen).headline == "It cannot be said how training goes (400 steps): the training loss was not seen."
    )
    note = Finding("dead_units", "note", "1", 3, "A layer is dead.", Fix("Train again."))
    assert Verdict("note", 400, (note,), unseen).headline == (
        "Nothing is wrong, but something is worth knowing (400 steps); the training loss was not seen, so 2 rules were not checked."
    )
    names = ("softmax_before_cross_entropy", "softmax_wrong_dim", "loss_output_mismatch")
    by_hand = tuple(NotChecked(name, "the loss was computed by hand") for name in names)
    assert Verdict("healthy", 400, (), by_hand).headline == "Nothing wrong was found (400 steps), but what the loss compares was not seen."
    assert Verdict("healthy", 400, (), by_hand[:2]).headline == "Nothing wrong was found (400 steps)."


def test_a_verdict_without_findings_is_one_line() -> None:
    assert str(Verdict("healthy", 500)) == "Nothing wrong was found (500 steps)."
