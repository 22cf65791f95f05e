"""What an advice on losses rests on: one question a file, each answered by training with every loss that is advised and
with the one that is usual."""

from collections.abc import Mapping

from evidence import (
    binary_probabilities,
    class_probabilities,
    few_samples,
    intervals,
    label_noise,
    masks_of_a_letter,
    masks_of_an_alphabet,
    open_set,
    ordering,
    outliers,
    rare_digits,
    spam,
)
from evidence.question import Question

QUESTIONS: Mapping[str, Question] = {
    question.name: question
    for question in (
        outliers.QUESTION,
        label_noise.QUESTION,
        rare_digits.QUESTION,
        spam.QUESTION,
        masks_of_a_letter.QUESTION,
        masks_of_an_alphabet.QUESTION,
        class_probabilities.QUESTION,
        binary_probabilities.QUESTION,
        intervals.QUESTION,
        ordering.QUESTION,
        open_set.QUESTION,
        few_samples.QUESTION,
    )
}
