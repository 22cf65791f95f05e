"""Letters of six alphabets, rendered from the DejaVu and STIX typefaces that the matplotlib wheel ships.

Nothing is downloaded. A class is one letter, its samples are its renderings in up to 16 faces.

Homoglyphs are dropped: the Greek and Cyrillic capital A are the Latin one to the last pixel, so asking to tell them
apart, or counting one as unseen after training on the other, would be a mistake of the data set. Two letters are
homoglyphs if in some face their images differ by less than ``HOMOGLYPH_DISTANCE`` of their ink; the first in the order
of ``ALPHABETS`` stays. The rendering decides, not Unicode's list of confusables, because the images are all that a
network sees.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy
import torch
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

ALPHABETS = {
    "latin": range(0x0041, 0x0250),
    "greek": range(0x0370, 0x0400),
    "cyrillic": range(0x0400, 0x0500),
    "armenian": range(0x0531, 0x0590),
    "georgian": range(0x10A0, 0x1100),
    "hebrew": range(0x05D0, 0x05EB),
}
DEJAVU = [
    f"DejaVu{family}{style}"
    for family, italic in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{italic}", f"-Bold{italic}")
]
STIX = ["STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"]
FACES = [*DEJAVU, *STIX]
FEWEST_FACES = 4
SIDE = 28
POINTS = 22  # all but 27 of the 6,399 images fit into SIDE pixels; a few wide Cyrillic letters lose their edges
HOMOGLYPH_DISTANCE = 0.1


class Glyphs(NamedTuple):
    """Images ``(N, 1, 28, 28)`` of letters, from 0 (paper) to 1 (ink), each in one face."""

    images: Tensor
    labels: Tensor
    """Indices into ``letters``."""
    faces: Tensor
    """Indices into ``FACES``."""
    letters: tuple[str, ...]

    def only(self, chosen: Tensor) -> Glyphs:
        """Return the chosen images; a letter keeps its number, even where none of its images is chosen."""
        return Glyphs(self.images[chosen], self.labels[chosen], self.faces[chosen], self.letters)

    def written_in(self, alphabets: Sequence[str]) -> Glyphs:
        """Return the images of the letters of some alphabets; they are numbered from 0 again."""
        wanted = [any(ord(letter) in ALPHABETS[alphabet] for alphabet in alphabets) for letter in self.letters]
        chosen = self.only(torch.tensor(wanted)[self.labels])
        kept, labels = chosen.labels.unique(return_inverse=True)
        return chosen._replace(labels=labels, letters=tuple(self.letters[label] for label in kept))

    def drawn_in(self, names: Sequence[str]) -> Tensor:
        """Return which images are in one of the named faces."""
        return torch.isin(self.faces, torch.tensor([FACES.index(name) for name in names]))


@cache
def glyphs() -> Glyphs:
    """Return all letters in all faces, without homoglyphs."""
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    files = [folder / f"{face}.ttf" for face in FACES]
    fonts = [ImageFont.truetype(file, POINTS) for file in files]
    covered = [FT2Font(file).get_charmap() for file in files]
    drawings: dict[str, dict[int, numpy.ndarray]] = {}
    for letter in letters():
        faces = [face for face, codes in enumerate(covered) if ord(letter) in codes]
        if len(faces) >= FEWEST_FACES:
            drawings[letter] = {face: drawing(letter, fonts[face]) for face in faces}
    for letter in homoglyphs(drawings):
        del drawings[letter]
    samples = [(image, label, face) for label, images in enumerate(drawings.values()) for face, image in images.items()]
    images, labels, faces = zip(*samples, strict=True)
    return Glyphs(
        torch.from_numpy(numpy.stack(images)).unsqueeze(1), torch.tensor(labels), torch.tensor(faces), tuple(drawings)
    )


def letters() -> list[str]:
    """Return the letters of all alphabets, without those that are another letter with an accent."""
    found = []
    for alphabet, codes in ALPHABETS.items():
        for letter in map(chr, codes):
            name = unicodedata.name(letter, "")
            if name.startswith(f"{alphabet.upper()} ") and "LETTER" in name and not unicodedata.decomposition(letter):
                found.append(letter)
    return found


def drawing(letter: str, font: ImageFont.FreeTypeFont) -> numpy.ndarray:
    """Return the image of a letter, centred: its place on the line would tell letters apart without a look at their
    shape."""
    image = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = pen.textbbox((0, 0), letter, font=font)
    pen.text(((SIDE - (right - left)) / 2 - left, (SIDE - (bottom - top)) / 2 - top), letter, font=font, fill=255)
    return numpy.asarray(image, dtype=numpy.float32) / 255


def homoglyphs(drawings: dict[str, dict[int, numpy.ndarray]]) -> list[str]:
    """Return the letters that look like an earlier one which is kept."""
    order = list(drawings)
    alike = numpy.zeros((len(order), len(order)), dtype=bool)
    for face in range(len(FACES)):
        present = [index for index, letter in enumerate(order) if face in drawings[letter]]
        ink = numpy.stack([drawings[order[index]][face].ravel() for index in present])
        mass = (ink**2).sum(1)
        apart = mass[:, None] + mass - 2 * ink @ ink.T
        alike[numpy.ix_(present, present)] |= apart < HOMOGLYPH_DISTANCE**2 * (mass[:, None] + mass) / 2
    dropped: list[int] = []
    for index in range(len(order)):
        if any(alike[index, earlier] and earlier not in dropped for earlier in range(index)):
            dropped.append(index)
    return [order[index] for index in dropped]
