"""Tasks: data, what a loss may be fed of it, and how well a network does on it. One task is one file."""

from tasks.digits import Digits
from tasks.disease import Disease
from tasks.glyphs import GlyphVerification
from tasks.outliers import Outliers
from tasks.spam import Spam
from tasks.task import Task
from tasks.vae import DigitImages

TASKS: dict[str, type[Task]] = {
    "glyphs": GlyphVerification,
    "digits": Digits,
    "disease": Disease,
    "spam": Spam,
    "outliers": Outliers,
    "vae": DigitImages,
}
