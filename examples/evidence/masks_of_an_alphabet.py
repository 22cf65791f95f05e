"""Imbalance: what is looked for fills a small part of the picture, and the network stays in doubt."""

from glyph_data import ALPHABETS, letters

from evidence.masks import FACTS, asked
from evidence.question import Question

QUESTION = Question(
    name="masks_of_an_alphabet",
    asks="Which loss finds the strokes of any letter of an alphabet in a picture of others?",
    steps=200,
    data=f"A letter of the Hebrew alphabet in {FACTS}",
    **asked([letter for letter in letters() if ord(letter) in ALPHABETS["hebrew"]]),
)
