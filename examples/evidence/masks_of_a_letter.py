"""Imbalance: what is looked for, one letter, fills a small part of the picture."""

from evidence.masks import FACTS, asked
from evidence.question import Question

QUESTION = Question(
    name="masks_of_a_letter",
    asks="Which loss finds the strokes of one letter in a picture of others?",
    steps=400,
    data=f"The Hebrew letter alef in {FACTS}",
    **asked(["\N{HEBREW LETTER ALEF}"]),
)
