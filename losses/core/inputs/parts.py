"""The kind of input of losses that are made of losses: parts of a mapping or tuple, one for each."""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from losses.core.errors import ConfigError
from losses.core.inputs.kind import Kind


class Parts(Kind):
    """What several losses take, each a part of it."""

    name, returns = "PARTS", "parts"
    output_text, target_text = "a mapping or tuple of parts", "likewise"

    def claims(self, output: object) -> bool:
        return True  # what a part is, the loss that is given it says

    def accept(self, loss: Any, output: Any, target: Any) -> tuple[Any, Any]:
        return output, target

    def inspect(self, loss: Any, output: Any, target: Any) -> None:
        """Leave it to the losses, which inspect their parts."""

    def draw(self, loss: Any, size: int, generator: torch.Generator) -> NoReturn:
        raise ConfigError(
            f"{type(loss).__name__} is given parts, one for each of its losses; check these, or one whose losses all "
            "take the whole"
        )
