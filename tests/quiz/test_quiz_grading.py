"""Grading: right and wrong answers to every kind of question, in the forms in which people type them."""

from __future__ import annotations

import pytest

from convscope.quiz.catalogue import question
from convscope.quiz.evaluate import NotUnderstood
from convscope.quiz.grading import grade

RIGHT = {
    2: [
        "-1 -1 -1 / 0 0 0 / 1 1 1",
        "[[-1,-2,-1],[0,0,0],[1,2,1]]",
        "-1,-1,-1;-1,-1,-1;2,2,2",
        "0 -1 0\n0 0 0\n0 1 0",
        "−1 −1 −1 / 0 0 0 / 1 1 1",
    ],
    3: ["9.5", "19/2", "1 + 4 + 5 - 1 + 0.5"],
    4: ["0", "0.0"],
    5: ["2", "5 // 2"],
    6: ["14", "(28 + 2 - 3) // 2 + 1"],
    7: ["[[(i, j) for j in range(1, 5)] for i in range(1, 5)]", "[[0 for c in range(3)] for r in range(2)]"],
    8: ["(16, 3, 5, 5)", "16 x 3 x 5 x 5", "torch.Size([16, 3, 5, 5])", "16×3×5×5"],
    9: ["8"],
    10: ["b", "B)", "b."],
    13: ["64, 10", "[64, 10]"],
    14: ["64 3 28 32"],
    15: ["18432", "18,432", "4*4*1152", "4*4*(1168-16)"],
    17: ["7"],
    20: ["(3, 40, 60)"],
    21: ["5.5"],
    22: ["data.show_batch()", "data.show_batch(max_n=4)"],
    23: ["0.5", "1/2", "50%"],
    26: ["learner.activation_stats"],
    27: ["c"],
    34: ["a"],
    35: ["Recorder"],
    38: ["c"],
}
WRONG = {
    2: [
        "1 1 1 / 0 0 0 / -1 -1 -1",
        "-1 0 1 / -1 0 1 / -1 0 1",
        "1 1 1 / 1 1 1 / 1 1 1",
        "0 0 0 / 0 0 0 / 0 0 0",
        "-1 -1 0 / -1 0 1 / 0 1 1",
    ],
    3: ["9", "0"],
    4: ["9"],
    6: ["28"],
    7: ["[(a, b) for a in range(3) for b in range(3)]", "[i for i in range(3)]", "[[1, 2], [3, 4]]"],
    8: ["(3, 16, 5, 5)", "(16, 3, 3, 3)", "16", "(16, 5, 5, 3)"],
    9: ["3"],
    10: ["a", "c"],
    13: ["(64, 10, 1, 1)", "640"],
    15: ["56448", "1152*49"],
    17: ["4"],
    20: ["(8, 3, 5, 5)", "(40, 60, 3)"],
    22: ["data.first()", "data.show_batch", "learner.show_batch()"],
    23: ["2", "0.25"],
    26: ["learner.ActivationStats", "learner.activation_stats()"],
}


@pytest.mark.parametrize(("number", "typed"), [(n, typed) for n, all_typed in RIGHT.items() for typed in all_typed])
def test_right_answers(number, typed):
    assert grade(question(number), typed).right is True


@pytest.mark.parametrize(("number", "typed"), [(n, typed) for n, all_typed in WRONG.items() for typed in all_typed])
def test_wrong_answers(number, typed):
    assert grade(question(number), typed).right is False


@pytest.mark.parametrize(
    ("number", "typed"),
    [
        (2, "1 2 / 3 4"),
        (2, "__import__('os')"),
        (2, "1 2 3 / 4 5 / 6 7 8"),
        (2, "nan nan nan / 0 0 0 / 1 1 1"),
        (2, "[[1,2,3],4,5]"),
        (3, "__import__('os').system('true')"),
        (3, "nine"),
        (3, "(1, 2)"),
        (7, "[[__import__('os') for i in range(2)] for j in range(2)]"),
        (7, "[[i for i in range(10**9)] for j in range(10**9)]"),
        (8, "(10000, 10000, 10000, 10000)"),
        (8, "(16, 3, -5, 5)"),
        (8, "9" * 100),
        (10, "d"),
        (22, "__import__('os').remove('x')"),
        (26, "activation_stats"),
        (15, ""),
    ],
)
def test_what_cannot_be_read_can_be_typed_again(number, typed):
    with pytest.raises(NotUnderstood):
        grade(question(number), typed)


def test_a_word_where_a_number_is_asked_for():
    with pytest.raises(NotUnderstood) as caught:
        grade(question(15), "forty")
    assert str(caught.value) == "A number is asked for, such as 784 or 28*28; 'forty' is none."


def test_it_says_what_running_gave():
    assert grade(question(2), "1 1 1 / 0 0 0 / -1 -1 -1").said == (
        "It does not answer top edges with a positive number: top edge -3, bottom edge 3, left edge 0, right edge 0, plain ink 0."
    )
    assert grade(question(15), "1152*49").said == "You say 56,448; computed: 18,432."
    assert grade(question(8), "(3, 16, 5, 5)").said == (
        "conv2d refuses a weight of shape (3, 16, 5, 5): Given groups=1, weight of size [3, 16, 5, 5], "
        "expected input[1, 3, 28, 28] to have 16 channels, but got 3 channels instead."
    )
    assert grade(question(7), "[[i for j in range(2)] for i in range(2)]").said == "It gives [[0, 0], [1, 1]]."
    assert grade(question(10), "a").said == "a is wrong; b is right."


def test_texts_are_for_the_learner_to_judge():
    assert grade(question(1), "anything").right is None
