"""What other libraries call losses and parameters that have another name here: data that error messages quote.

Each row is tried: ``tests/core/test_foreign_names.py`` builds both sides as they stand here and compares values and
gradients, and sees to it that no loss class of torch or pytorch-metric-learning is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from losses.core.errors import quoted

TORCH, PML = "torch", "pytorch-metric-learning 2.9"
WRAPPERS = ("CrossBatchMemory", "MultipleLosses", "SelfSupervisedLoss")
"""What pytorch-metric-learning builds around losses, and which is not built by name here."""


class ForeignLoss(NamedTuple):
    """A loss as another library calls it, and what it is here."""

    library: str
    """Empty for names of the field at large."""
    call: str
    """The name, with the arguments at which it is ``here``."""
    here: Mapping[str, Any] | None
    """The configuration of the same loss; ``None`` where there is none."""
    note: str = ""
    """What else differs; of a loss that is not here, what there is in its place."""
    renames: Mapping[str, str] = {}
    """Its parameters that have another name here and the same values."""
    also: tuple[str, ...] = ()
    """Other names for the same."""

    @property
    def name(self) -> str:
        return self.call.partition("(")[0]

    def explained(self, asked: str) -> str:
        """Return in a sentence what the loss is here, to someone who ``asked`` for it."""
        subject = f"{self.library}'s {self.call}" if self.library else quoted(asked)
        if self.here is None:
            itself = f" As it is there: 'pml.{self.name}'." if self.library == PML and self.name not in WRAPPERS else ""
            return f"{subject} has no equal here: {self.note}.{itself}"
        renamed = [f"its {theirs} is {ours}" for theirs, ours in self.renames.items()]
        return "; ".join([f"{subject} is {as_yaml(self.here)} here", *renamed, *filter(None, [self.note])]) + "."


class ForeignParameter(NamedTuple):
    """Names of a parameter elsewhere, and the one here; ``None`` is no parameter, and the note says what there is."""

    names: tuple[str, ...]
    here: str | None
    note: str = ""


def absent(library: str, note: str, *names: str) -> list[ForeignLoss]:
    return [ForeignLoss(library, name, None, note) for name in names]


_ON_PAIRS = "on losses.Pairs(first, second) with its target"
_NORMALISED = "its default distance normalises, so pass torch.nn.functional.normalize(embeddings)"
LOSSES: tuple[ForeignLoss, ...] = (
    ForeignLoss(TORCH, "L1Loss()", {"name": "mae"}),
    ForeignLoss(TORCH, "MSELoss()", {"name": "mse"}),
    ForeignLoss(TORCH, "HuberLoss(delta=1.0)", {"name": "huber", "delta": 1.0}),
    ForeignLoss(
        TORCH,
        "SmoothL1Loss(beta=1.0)",
        {"name": "huber", "delta": 1.0},
        "with another beta it is huber(delta=beta) / beta: use 'huber' and scale it",
    ),
    ForeignLoss(
        TORCH,
        "CrossEntropyLoss()",
        {"name": "cross_entropy"},
        "label_smoothing and ignore_index are the same",
        {"weight": "class_weight"},
    ),
    ForeignLoss(
        TORCH,
        "NLLLoss()",
        {"name": "cross_entropy"},
        "on the logits: leave log_softmax out",
        {"weight": "class_weight"},
    ),
    ForeignLoss(
        TORCH,
        "BCEWithLogitsLoss()",
        {"name": "binary_cross_entropy"},
        "its weight goes into the call, loss(logits, target, weight=w), whose mean divides by w.sum() unless you say "
        "normalizer=w.numel()",
        {"pos_weight": "positive_weight"},
        ("binary_cross_entropy_with_logits",),
    ),
    ForeignLoss(
        TORCH,
        "BCELoss()",
        {"name": "binary_cross_entropy"},
        "on the logits: leave the sigmoid out",
        also=("binary_cross_entropy",),
    ),
    ForeignLoss(
        TORCH,
        "MultiLabelSoftMarginLoss()",
        {"name": "binary_cross_entropy"},
        "here an item is one label, there the mean over the labels of a sample",
    ),
    ForeignLoss(
        TORCH,
        "SoftMarginLoss()",
        {"name": "binary_cross_entropy"},
        "with targets of 0 and 1: (target > 0).float()",
    ),
    ForeignLoss(
        TORCH,
        "MarginRankingLoss(margin=1.0)",
        {"name": "hinge", "margin": 1.0},
        "on the difference, loss(first - second, target); a margin of 0, its default, is not accepted",
    ),
    ForeignLoss(
        TORCH,
        "KLDivLoss(reduction='batchmean')",
        {"name": "kl_divergence", "output_form": "log_probs"},
        "its log_target=True is target_form: log_probs; its reduction='mean' also divides by the number of outcomes",
    ),
    ForeignLoss(
        TORCH,
        "HingeEmbeddingLoss(margin=1.0)",
        {"name": "contrastive", "power": 1, "margin": 1.0},
        f"{_ON_PAIRS}; the distances, which it is given, are computed here",
    ),
    ForeignLoss(
        TORCH,
        "CosineEmbeddingLoss(margin=0.0)",
        {"name": "cosine_embedding", "margin": 0.0},
        f"{_ON_PAIRS}; margin is the same; labelled embeddings, of which every pair is compared, are taken too",
    ),
    ForeignLoss(
        TORCH,
        "TripletMarginLoss(margin=1.0, eps=0.0)",
        {"name": "triplet", "margin": 1.0, "average": "all"},
        "on losses.Triplets(anchor, positive, negative); swap is the same, p is 2, and its default eps of 1e-6, which "
        "it adds to every difference, is not here",
    ),
    ForeignLoss(
        TORCH,
        "TripletMarginWithDistanceLoss(margin=1.0, distance_function=PairwiseDistance(eps=0.0))",
        {"name": "triplet", "margin": 1.0, "average": "all"},
        "on losses.Triplets(anchor, positive, negative); swap is the same; distance is 'euclidean', "
        "'squared_euclidean' or 'cosine', no function",
    ),
    *absent(
        TORCH,
        "'multiclass_hinge' with form='weston_watkins' is that times the number of classes, and its p is power",
        "MultiMarginLoss",
    ),
    *absent(
        TORCH, "'binary_cross_entropy' and 'hinge' take one score and one 0 or 1 per label", "MultiLabelMarginLoss"
    ),
    ForeignLoss(
        TORCH,
        "GaussianNLLLoss(full=False)",
        {"name": "gaussian_nll"},
        "on losses.Gaussian(mean, log_variance): it takes a variance, here it is the logarithm of one, which needs no "
        "eps; full is the same",
    ),
    ForeignLoss(
        TORCH,
        "PoissonNLLLoss(log_input=True)",
        {"name": "poisson_nll"},
        "on the logarithm of the rate; full adds the exact log-factorial, there an approximation of it",
    ),
    *absent(TORCH, "there is no loss of sequences without alignment", "CTCLoss"),
    *absent(
        TORCH,
        "it holds the last layer; keep that in the model, and use 'cross_entropy' on losses.LinearLogits(features, "
        "layer.weight, layer.bias), which makes no more logits at once",
        "LinearCrossEntropyLoss",
    ),
    *absent(
        TORCH,
        "it holds the last layer; keep that in the model, and use 'cross_entropy' on its logits",
        "AdaptiveLogSoftmaxWithLoss",
    ),
    ForeignLoss(
        PML,
        "TripletMarginLoss(margin=0.05)",
        {"name": "triplet", "margin": 0.05},
        f"{_NORMALISED}; swap is the same; its smooth_loss=True with margin=0 is margin: soft",
    ),
    ForeignLoss(
        PML,
        "ContrastiveLoss(pos_margin=0, neg_margin=1)",
        {"name": "contrastive", "power": 1, "average": "balanced", "margin": 1},
        _NORMALISED,
        {"neg_margin": "margin", "pos_margin": "positive_margin"},
    ),
    ForeignLoss(PML, "CircleLoss(m=0.4, gamma=80)", {"name": "circle"}, "", {"m": "margin", "gamma": "scale"}),
    ForeignLoss(
        PML,
        "MultiSimilarityLoss(alpha=2, beta=50, base=0.5)",
        {"name": "multi_similarity", "alpha": 2, "beta": 50, "base": 0.5},
    ),
    ForeignLoss(PML, "NTXentLoss(temperature=0.07)", {"name": "info_nce", "temperature": 0.07}),
    ForeignLoss(
        PML,
        "SupConLoss(temperature=0.1)",
        {"name": "supervised_contrastive", "temperature": 0.1},
        "except where an anchor meets nothing of another class, or its loss rounds to 0",
    ),
    *absent(
        PML,
        "'memory_bank' keeps past embeddings: create('memory_bank', loss='contrastive', capacity=1024)",
        "CrossBatchMemory",
    ),
    *absent(
        PML,
        "'info_nce' takes losses.Pairs(embeddings, views) itself; for others number the samples: "
        "loss(torch.cat([embeddings, views]), torch.arange(N).repeat(2))",
        "SelfSupervisedLoss",
    ),
    *absent(PML, "build several losses and add what they return", "MultipleLosses"),
    *absent(
        PML,
        "it holds a weight for every class, and losses here have nothing to train; without such weights 'circle', "
        "'multi_similarity', 'supervised_contrastive' and 'triplet' learn from the same labels",
        *("ArcFaceLoss", "CosFaceLoss", "SphereFaceLoss", "SubCenterArcFaceLoss", "LargeMarginSoftmaxLoss"),
        *("NormalizedSoftmaxLoss", "ProxyAnchorLoss", "ProxyNCALoss", "SoftTripleLoss", "P2SGradLoss", "ManifoldLoss"),
    ),
    *absent(
        PML,
        "'triplet', 'circle', 'multi_similarity' and 'supervised_contrastive' learn from the same labelled embeddings",
        *("AngularLoss", "DynamicSoftMarginLoss", "FastAPLoss", "GeneralizedLiftedStructureLoss", "HistogramLoss"),
        *("InstanceLoss", "IntraPairVarianceLoss", "LiftedStructureLoss", "MarginLoss", "NCALoss", "NPairsLoss"),
        *("PNPLoss", "RankedListLoss", "SmoothAPLoss", "ThresholdConsistentMarginLoss", "TupletMarginLoss"),
    ),
    *absent(
        PML,
        "'contrastive' has distances 'euclidean', 'squared_euclidean', 'cosine'",
        "SignalToNoiseRatioContrastiveLoss",
    ),
    *absent(PML, "'info_nce' learns from two views of each sample, losses.Pairs(first, second)", "VICRegLoss"),
    ForeignLoss(
        "info-nce-pytorch",
        "InfoNCE(temperature=0.1)",
        {"name": "info_nce", "temperature": 0.1, "direction": "forward"},
        "on losses.Pairs(query, positive_key)",
    ),
    ForeignLoss("", "mean_squared_error", {"name": "mse"}, also=("squared_error",)),
    ForeignLoss("", "mean_absolute_error", {"name": "mae"}, also=("absolute_error",)),
    ForeignLoss(
        "",
        "categorical_crossentropy",
        {"name": "cross_entropy"},
        "on logits",
        also=("sparse_categorical_crossentropy", "softmax_cross_entropy", "log_loss"),
    ),
    ForeignLoss("", "sigmoid_cross_entropy", {"name": "binary_cross_entropy"}, "on logits"),
    ForeignLoss("", "squared_hinge", {"name": "hinge", "power": 2}),
    ForeignLoss("", "kullback_leibler", {"name": "kl_divergence"}, also=("kld", "kullback_leibler_divergence")),
    ForeignLoss(
        "",
        "confidence_penalty",
        {"name": "entropy"},
        "a term of a weighted_sum, with a weight below 0",
        also=("maximum_entropy", "entropy_regularization", "max_entropy"),
    ),
    ForeignLoss(
        "",
        "entropy_minimization",
        {"name": "entropy"},
        "a term of a weighted_sum, with a weight above 0",
        also=("shannon_entropy", "minimum_entropy", "min_entropy"),
    ),
    ForeignLoss("", "jensen_shannon", {"name": "js_divergence"}, also=("jsd", "jensen_shannon_divergence")),
    ForeignLoss("", "earth_movers_distance", {"name": "wasserstein"}, also=("earth_mover", "optimal_transport")),
    ForeignLoss("", "clip", {"name": "info_nce", "negatives": "second"}, "on losses.Pairs(images, texts)"),
    ForeignLoss("", "simclr", {"name": "info_nce", "negatives": "both"}, "on losses.Pairs(first, second)"),
    ForeignLoss("", "beta_vae", {"name": "elbo", "beta": 4}),
    *absent(
        "",
        "'gradient_norm', a term of a weighted_sum, draws the gradient of the output by the inputs to 0",
        *("gradient_penalty", "jacobian_regularization", "double_backpropagation"),
    ),
    *absent("", "it is the root of 'mse', whose smallest value is at the same place", "rmse"),
    *absent("", "'mae' and 'huber' are in the unit of the target", "mape", "smape"),
    ForeignLoss("", "mean_pinball_loss", {"name": "quantile", "quantile": 0.5}, "", {"alpha": "quantile"}),
    ForeignLoss(
        "", "jaccard", {"name": "tversky", "alpha": 1, "beta": 1}, "on logits and masks", also=("iou", "soft_iou")
    ),
    *absent("", "'dice' and 'tversky' compare masks by their overlap", "focal_tversky", "lovasz", "generalized_dice"),
    ForeignLoss(
        "",
        "sigmoid_focal_loss",
        {"name": "focal", "gamma": 2, "alpha": 0.25, "reduction": "none"},
        "on logits; an alpha below 0 there is none here",
    ),
    *absent("", "'wasserstein' compares distributions on a line", "mmd", "sinkhorn", "sliced_wasserstein"),
    *absent("", "'mse', 'mae' and 'huber' compare pixel by pixel", "ssim", "psnr", "lpips", "perceptual"),
    *absent("", "'binary_cross_entropy' tells real from fake by logits", "gan", "adversarial"),
    *absent("", "'info_nce' learns from two views of each sample", "barlow_twins", "byol", "dino", "vicreg"),
    *absent("", "it holds a centre for every class; 'supervised_contrastive' draws classes together", "center"),
)

PARAMETERS: tuple[ForeignParameter, ...] = (
    ForeignParameter(("beta",), "delta", "what smooth L1 gives is divided by beta"),
    ForeignParameter(("tau", "temp", "t"), "temperature"),
    ForeignParameter(("m", "neg_margin"), "margin"),
    ForeignParameter(("pos_margin",), "positive_margin"),
    ForeignParameter(("alpha", "tau", "q", "quantiles"), "quantile"),
    ForeignParameter(("smooth_loss", "soft"), "margin", "margin: soft"),
    ForeignParameter(("gamma", "s"), "scale"),
    ForeignParameter(("pos_weight",), "positive_weight"),
    ForeignParameter(("weight", "weights", "class_weights"), "class_weight", "one number per class"),
    ForeignParameter(("smoothing",), "label_smoothing"),
    ForeignParameter(("ignore_label", "padding_idx"), "ignore_index"),
    ForeignParameter(("p",), "distance", "the norm of p=2 is 'euclidean', others are not here"),
    ForeignParameter(("p",), "power"),
    ForeignParameter(("distance_function", "metric"), "distance"),
    ForeignParameter(("type_of_triplets", "miner", "triplets"), "mining"),
    ForeignParameter(("log_target",), "target_form", "log_target=True is target_form: log_probs"),
    ForeignParameter(("log_input", "from_logits"), "output_form"),
    ForeignParameter(("recon_loss", "reconstruction_loss"), "reconstruction"),
    ForeignParameter(("kl_weight", "kld_weight"), "beta"),
    ForeignParameter(("size_average", "reduce", "reducer"), "reduction", "'mean', 'sum' or 'none'"),
    ForeignParameter(("weight", "sample_weight"), None, "weights of a batch go into the call: loss(..., weight=w)"),
    ForeignParameter(("indices", "indices_tuple"), None, "indices go into the call: loss(..., indices=miner_tuple)"),
    ForeignParameter(
        ("reference", "ref_emb", "ref_labels"), None, "it goes into the call: loss(..., reference=(embeddings, labels))"
    ),
    ForeignParameter(("eps",), None, "there is none, gradients are finite without it"),
    ForeignParameter(("_target_",), None, "it is Hydra's: hydra.utils.instantiate(config) reads it, create does not"),
)

VALUES: Mapping[tuple[str, str], str] = {
    ("reduction", "batchmean"): "'mean' is that, where an item is a sample.",
    ("reduction", "elementwise_mean"): "That is 'mean' where an item is an element.",
    ("distance", "l2"): "That is 'euclidean'.",
    ("distance", "lp"): "With p=2 that is 'euclidean'.",
    ("distance", "sqeuclidean"): "That is 'squared_euclidean'.",
    ("distance", "cosine_similarity"): "'cosine' is the distance 1 - cosine.",
    ("mining", "batch_hard"): "That is 'hard'.",
    ("mining", "hardest"): "That is 'hard'.",
}


def foreign_losses(name: str) -> list[ForeignLoss]:
    """Return the rows of a name, however it is written: ``nn.SmoothL1Loss`` is ``smooth_l1``.

    >>> [row.here for row in foreign_losses("F.mse_loss")]
    [{'name': 'mse'}]
    """
    key = bare(name)
    return [row for row in LOSSES if key in map(bare, (row.name, *row.also))]


def foreign_parameter(name: str, known: Collection[str]) -> str:
    """Return in words what a parameter of another library is among those ``known``; nothing where it is not.

    >>> foreign_parameter("tau", ["temperature", "reduction"])
    " 'tau' is called 'temperature' here."
    """
    rows = [row for row in PARAMETERS if name.lower() in row.names]
    here = [row for row in rows if row.here in known]
    texts = [f" {name!r} is called {row.here!r} here{f' ({row.note})' if row.note else ''}." for row in here]
    return "".join(texts or [f" {row.note[0].upper()}{row.note[1:]}." for row in rows if row.here is None])


def foreign_value(parameter: str, value: str) -> str:
    """Return in words what a value of another library is here; nothing where it is not."""
    text = VALUES.get((parameter, value.lower()), "")
    return text and f" {text}"


def bare(name: str) -> str:
    """Return the letters and digits of a name alone, without its module and the word loss.

    >>> bare("torch.nn.SmoothL1Loss"), bare("smooth_l1")
    ('smoothl1', 'smoothl1')
    """
    return re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower()).removesuffix("loss")


def as_yaml(config: Mapping[str, Any]) -> str:
    """Return a flat configuration as it is written in a file.

    >>> as_yaml({"name": "triplet", "swap": True})
    '{name: triplet, swap: true}'
    """
    words = (f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in config.items())
    return f"{{{', '.join(words)}}}"
