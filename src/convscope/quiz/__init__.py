"""The questionnaire: forty questions whose answers the library computes, graded by running what was typed, and repeated when it is time.

`questions()` are the words, `demonstrate(n)` the computed answer with the wrong ones run beside it, `check()` all forty without a person,
`run_quiz()` the dialogue; `grading.grade(question, typed)` says what became of an answer and `progress` keeps a learner's. All results are
records that `convscope.records.to_json` turns into JSON. Torch is imported when the first answer is computed, so the first question comes at once.
"""

from convscope.quiz.catalogue import question, questions
from convscope.quiz.demonstrations import check, demonstrate
from convscope.quiz.dialogue import run_quiz

__all__ = ["check", "demonstrate", "question", "questions", "run_quiz"]
