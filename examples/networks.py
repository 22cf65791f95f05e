"""Networks that a run chooses by name, and the heads that turn their features into what a kind of loss takes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from itertools import pairwise
from math import ceil, prod
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from settings import Settings, Size, Sizes
from torch import Tensor, nn

from losses import Loss, VAEOutput
from losses.networks import SiameseNetwork, TripletNetwork

Shape = tuple[int, ...]


class Embedder(nn.Module):
    """Embeddings on the unit sphere."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, samples: Tensor) -> Tensor:
        return F.normalize(self.features(samples), dim=1)

    embed = forward


class Classifier(nn.Module):
    """One logit per class; its embeddings are the features that the last layer reads."""

    def __init__(self, features: nn.Module, dimension: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(dimension, classes)

    def forward(self, samples: Tensor) -> Tensor:
        return self.head(self.features(samples))

    def embed(self, samples: Tensor) -> Tensor:
        return F.normalize(self.features(samples), dim=1)


class ManyHeads(nn.Module):
    """Of each sample logits, an embedding and the sample made again, by their names."""

    def __init__(self, features: nn.Module, dimension: int, classes: int, shape: Shape) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(dimension, classes)
        self.decoder = nn.Sequential(nn.Linear(dimension, prod(shape)), nn.Unflatten(1, shape))

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        features = self.features(samples)
        return {
            "logits": self.head(features),
            "embedding": F.normalize(features, dim=1),
            "image": self.decoder(features),
        }

    def embed(self, samples: Tensor) -> Tensor:
        return F.normalize(self.features(samples), dim=1)


class OneNumber(nn.Module):
    """One number per sample: a prediction, or a logit."""

    def __init__(self, features: nn.Module, dimension: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(dimension, 1)

    def forward(self, samples: Tensor) -> Tensor:
        return self.head(self.features(samples)).squeeze(1)


class Autoencoder(nn.Module):
    """Encode samples as Gaussians over a latent space, decode one draw from each into logits."""

    def __init__(self, shape: Shape, hidden: list[int], latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Flatten(), *layers([prod(shape), *hidden, 2 * latent]))
        self.decoder = nn.Sequential(*layers([latent, *reversed(hidden), prod(shape)]), nn.Unflatten(1, shape))

    def forward(self, samples: Tensor) -> VAEOutput:
        mean, log_variance = self.encoder(samples).chunk(2, dim=1)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return VAEOutput(self.decoder(latent), mean, log_variance)


def layers(sizes: list[int]) -> list[nn.Module]:
    """Return linear layers between the given sizes, with ReLU between them."""
    linear = [nn.Linear(before, after) for before, after in pairwise(sizes)]
    return [layer for step in linear for layer in (step, nn.ReLU())][:-1]


class Ends(NamedTuple):
    """What a head is between: how many features it is given, and what is known of samples and outputs."""

    dimension: int
    outputs: int
    shape: Shape
    loss: Loss


HEADS: Mapping[str, Callable[[nn.Module, Ends], nn.Module]] = {
    "prediction": lambda features, ends: OneNumber(features, ends.dimension),
    "logit": lambda features, ends: OneNumber(features, ends.dimension),
    "logits": lambda features, ends: Classifier(features, ends.dimension, ends.outputs),
    "embeddings": lambda features, ends: Embedder(features),
    "pairs": lambda features, ends: SiameseNetwork(Embedder(features), ends.loss),
    "triplets": lambda features, ends: TripletNetwork(Embedder(features), ends.loss),
    "parts": lambda features, ends: ManyHeads(features, ends.dimension, ends.outputs, ends.shape),
}
"""From what a network must return to the head that makes it of features."""


class NetworkSettings(Settings):
    """A network as a run describes it."""

    returns: ClassVar[frozenset[str]]
    """What it can return, in the words of ``Kind.returns``."""

    name: str

    @abstractmethod
    def build(self, returns: str, shape: Shape, outputs: int, loss: Loss) -> nn.Module:
        """Return an untrained network for samples of a shape.

        Args:
            returns: what it must return, one of ``self.returns``.
            shape: of one sample.
            outputs: number of logits, where it returns logits.
            loss: what it is trained with, for networks that hold their loss.
        """

    def misfit(self, shape: Shape) -> str | None:
        """Return why samples of a shape cannot be fed to it, if they cannot."""
        return None


class Encoder(NetworkSettings):
    """A network that makes features of a sample, and a head that makes of them what the loss takes."""

    returns = frozenset(HEADS)

    def build(self, returns: str, shape: Shape, outputs: int, loss: Loss) -> nn.Module:
        features = self.features(shape)
        with torch.no_grad():
            dimension = features.eval()(torch.zeros(1, *shape)).shape[1]
        return HEADS[returns](features.train(), Ends(dimension, outputs, shape, loss))

    @abstractmethod
    def features(self, shape: Shape) -> nn.Module:
        """Return the part of the network before its head."""


class CNN(Encoder):
    """Convolutions that halve the image once per entry of ``channels``, then one linear layer."""

    name: Literal["cnn"]
    channels: Sizes
    dimension: Size

    def features(self, shape: Shape) -> nn.Module:
        stages: list[nn.Module] = []
        for before, after in pairwise([shape[0], *self.channels]):
            # ceil_mode: an image of odd size keeps its border
            stages += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        sides = [ceil(side / 2 ** len(self.channels)) for side in shape[1:]]
        return nn.Sequential(*stages, nn.Flatten(), nn.Linear(self.channels[-1] * prod(sides), self.dimension))

    def misfit(self, shape: Shape) -> str | None:
        return (
            None
            if len(shape) == 3
            else f"'cnn' takes images (channels, height, width), the task has samples of shape {shape}"
        )


class MLP(Encoder):
    """Fully connected layers of the sizes ``hidden``, then, where a ``dimension`` is given, one linear layer."""

    name: Literal["mlp"]
    hidden: Sizes
    dimension: Size | None = None

    def features(self, shape: Shape) -> nn.Module:
        last = [] if self.dimension is None else [nn.Linear(self.hidden[-1], self.dimension)]
        return nn.Sequential(nn.Flatten(), *layers([prod(shape), *self.hidden]), nn.ReLU(), *last)


class Linear(Encoder):
    """No hidden layer: the features are the sample itself."""

    name: Literal["linear"]

    def features(self, shape: Shape) -> nn.Module:
        return nn.Flatten()


class VAE(NetworkSettings):
    """A variational autoencoder with fully connected layers of the sizes ``hidden``, in the decoder in reverse."""

    returns = frozenset({"vae"})

    name: Literal["vae"]
    hidden: Sizes
    latent: Size

    def build(self, returns: str, shape: Shape, outputs: int, loss: Loss) -> nn.Module:
        return Autoencoder(shape, self.hidden, self.latent)


NETWORKS: Mapping[str, type[NetworkSettings]] = {"cnn": CNN, "mlp": MLP, "linear": Linear, "vae": VAE}
