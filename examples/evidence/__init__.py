"""What an advice on losses rests on: one question a file, each answered by training with every loss that is advised and
with the one that is usual."""

from collections.abc import Mapping

from evidence import calibration, few_samples, imbalance, intervals, label_noise, open_set, ordering, outliers
from evidence.question import Question

QUESTIONS: Mapping[str, Question] = {
    question.condition: question
    for question in (
        outliers.QUESTION,
        label_noise.QUESTION,
        imbalance.QUESTION,
        calibration.QUESTION,
        intervals.QUESTION,
        ordering.QUESTION,
        open_set.QUESTION,
        few_samples.QUESTION,
    )
}
