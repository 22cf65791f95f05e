"""The lines one writes with ``torch.nn.functional`` for losses of single elements and samples.

Each function is a value to differentiate. The last tensor is the weights, in those whose name says so.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical


def weighted_mean(items: Tensor, weight: Tensor) -> Tensor:
    return (items * weight).sum() / weight.sum()


def weighted_mse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return ((prediction - target).square() * weight).sum() / weight.sum()


def weighted_mae(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return ((prediction - target).abs() * weight).sum() / weight.sum()


def weighted_huber(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(F.huber_loss(prediction, target, reduction="none"), weight)


def log_cosh_items(prediction: Tensor, target: Tensor) -> Tensor:
    residual = prediction - target
    return residual + F.softplus(-2 * residual) - math.log(2)  # as Keras has it: cosh overflows


def log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    return log_cosh_items(prediction, target).mean()


def weighted_log_cosh(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(log_cosh_items(prediction, target), weight)


LEVEL, LEVELS = 0.9, [0.1, 0.5, 0.9]
COSINE_MARGIN = 0.2


def quantile(prediction: Tensor, target: Tensor, level: float = LEVEL) -> Tensor:
    residual = target - prediction
    return torch.maximum(level * residual, (level - 1) * residual).mean()


def weighted_quantile(prediction: Tensor, target: Tensor, weight: Tensor, level: float = LEVEL) -> Tensor:
    residual = target - prediction
    return weighted_mean(torch.maximum(level * residual, (level - 1) * residual), weight)


def quantiles(prediction: Tensor, target: Tensor) -> Tensor:
    levels = prediction.new_tensor(LEVELS)
    residual = target.unsqueeze(1) - prediction
    return torch.maximum(levels * residual, (levels - 1) * residual).mean()


def gaussian_nll_items(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    return 0.5 * (log_variance + (mean - target).square() * (-log_variance).exp())


def gaussian_nll(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    return gaussian_nll_items(mean, log_variance, target).mean()


def weighted_gaussian_nll(mean: Tensor, log_variance: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(gaussian_nll_items(mean, log_variance, target), weight)


def weighted_poisson_nll(log_rates: Tensor, counts: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(F.poisson_nll_loss(log_rates, counts, reduction="none"), weight)


def hinge(scores: Tensor, sides: Tensor) -> Tensor:
    return (1 - sides * scores).clamp(min=0).mean()


def weighted_hinge(scores: Tensor, sides: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean((1 - sides * scores).clamp(min=0), weight)


def weighted_binary_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), weight)


def class_weighted_cross_entropy(logits: Tensor, target: Tensor, class_weight: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, class_weight)


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(F.cross_entropy(logits, target, reduction="none"), weight)


def cross_entropy_with_z_loss(logits: Tensor, target: Tensor, z_loss: float = 1e-4) -> Tensor:
    return F.cross_entropy(logits, target) + z_loss * logits.logsumexp(1).square().mean()


def ordinal_items(logits: Tensor, target: Tensor) -> Tensor:
    above = target.unsqueeze(1) > torch.arange(logits.shape[1], device=logits.device)
    return F.binary_cross_entropy_with_logits(logits, above.to(logits.dtype), reduction="none").sum(1)


def ordinal(logits: Tensor, target: Tensor) -> Tensor:
    return ordinal_items(logits, target).mean()


def weighted_ordinal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(ordinal_items(logits, target), weight)


def linear_cross_entropy(features: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(features, weight, bias), target)


def binary_focal(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    probs = logits.sigmoid()
    surprise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = probs * target + (1 - probs) * (1 - target)
    side = alpha * target + (1 - alpha) * (1 - target)
    return (side * (1 - right) ** gamma * surprise).mean()


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    surprise = F.cross_entropy(logits, target, reduction="none")
    return ((1 - (-surprise).exp()) ** gamma * surprise).mean()


def generalized_cross_entropy(logits: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    right = logits.softmax(1).gather(1, target.unsqueeze(1))
    return ((1 - right**q) / q).mean()


def crammer_singer(scores: Tensor, target: Tensor) -> Tensor:
    index = target.unsqueeze(1)
    best = scores.scatter(1, index, -math.inf).amax(1, keepdim=True)
    return (1 - scores.gather(1, index) + best).clamp(min=0).mean()


def weston_watkins(scores: Tensor, target: Tensor) -> Tensor:
    return F.multi_margin_loss(scores, target) * scores.shape[1]


def dice(logits: Tensor, target: Tensor) -> Tensor:
    probs, target = logits.sigmoid().flatten(1), target.flatten(1)
    both = (probs * target).sum(1)
    return (1 - 2 * both / (probs.sum(1) + target.sum(1))).mean()


def dice_of_classes(logits: Tensor, target: Tensor) -> Tensor:
    probs = logits.softmax(1).flatten(2)
    there = F.one_hot(target, logits.shape[1]).movedim(-1, 1).flatten(2)
    both = (probs * there).sum(2)
    return (1 - 2 * both / (probs.sum(2) + there.sum(2))).mean()


def tversky(logits: Tensor, target: Tensor, alpha: float = 0.3, beta: float = 0.7) -> Tensor:
    probs, target = logits.sigmoid().flatten(1), target.flatten(1)
    both = (probs * target).sum(1)
    added, missed = (probs * (1 - target)).sum(1), ((1 - probs) * target).sum(1)
    return (1 - both / (both + alpha * added + beta * missed)).mean()


def kl_divergence(logits: Tensor, probs: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(-1), probs, reduction="batchmean")


def weighted_kl_divergence(logits: Tensor, probs: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(F.kl_div(logits.log_softmax(-1), probs, reduction="none").sum(-1), weight)


def js_divergences(logits: Tensor, probs: Tensor) -> Tensor:
    own = logits.softmax(-1)
    log_middle = ((own + probs) / 2).log()
    both = own * (own.log() - log_middle) + probs * (probs.log() - log_middle)
    return both.sum(-1) / 2


def js_divergence(logits: Tensor, probs: Tensor) -> Tensor:
    return js_divergences(logits, probs).mean()


def weighted_js_divergence(logits: Tensor, probs: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(js_divergences(logits, probs), weight)


def entropies(logits: Tensor) -> Tensor:
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    return entropies(logits).mean()


def weighted_entropy(logits: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(entropies(logits), weight)


def categorical_entropy(logits: Tensor) -> Tensor:
    return Categorical(logits=logits).entropy().mean()


def wasserstein(samples: Tensor, target: Tensor) -> Tensor:
    return (samples.sort(-1).values - target.sort(-1).values).abs().mean()


def weighted_wasserstein(samples: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean((samples.sort(-1).values - target.sort(-1).values).abs().mean(-1), weight)


def elbo(reconstruction: Tensor, mean: Tensor, log_variance: Tensor, data: Tensor) -> Tensor:
    missed = F.binary_cross_entropy_with_logits(reconstruction, data, reduction="sum")
    said = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
    return (missed + said) / len(data)


def weighted_elbo(reconstruction: Tensor, mean: Tensor, log_variance: Tensor, data: Tensor, weight: Tensor) -> Tensor:
    missed = F.binary_cross_entropy_with_logits(reconstruction, data, reduction="none").sum(1)
    said = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
    return weighted_mean(missed + said, weight)


def contrastive_pairs(first: Tensor, second: Tensor, same: Tensor) -> Tensor:
    return contrastive_items(first, second, same).mean()


def weighted_contrastive_pairs(first: Tensor, second: Tensor, same: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(contrastive_items(first, second, same), weight)


def contrastive_items(first: Tensor, second: Tensor, same: Tensor, margin: float = 1.4) -> Tensor:
    between = (first - second).norm(dim=1)
    return (same * between.square() + (1 - same) * (margin - between).clamp(min=0).square()) / 2


def cosine_pairs(first: Tensor, second: Tensor, same: Tensor) -> Tensor:
    return F.cosine_embedding_loss(first, second, 2 * same - 1, margin=COSINE_MARGIN)


def weighted_cosine_pairs(first: Tensor, second: Tensor, same: Tensor, weight: Tensor) -> Tensor:
    items = F.cosine_embedding_loss(first, second, 2 * same - 1, margin=COSINE_MARGIN, reduction="none")
    return weighted_mean(items, weight)


def triplets(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    return F.triplet_margin_loss(anchor, positive, negative, margin=0.2, eps=0.0)


def weighted_triplets(anchor: Tensor, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
    items = F.triplet_margin_loss(anchor, positive, negative, margin=0.2, eps=0.0, reduction="none")
    return weighted_mean(items, weight)
