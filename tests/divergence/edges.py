"""Distributions at the edge of what there is, in the three forms that they are given in."""

import torch
from torch import Tensor

FORMS = ["logits", "log_probs", "probs"]
EDGES = {
    "one_hot": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
    "disjoint": [[0.0, 1.0, 0.0], [0.0, 0.5, 0.5]],
    "sparse": [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]],
    "inside": [[0.25, 0.25, 0.5], [0.125, 0.5, 0.375]],
}


def in_form(probs: list[list[float]], form: str, dtype: torch.dtype) -> Tensor:
    values = torch.tensor(probs, dtype=dtype)
    return values if form == "probs" else values.log()
