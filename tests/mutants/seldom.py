"""Broken losses that are right on an ordinary batch, as they were found from outside."""

from typing import Any

import torch
from torch import Tensor

import losses
from losses import Loss
from losses.core.labelled import LabelledBatch
from losses.core.reduction import Total
from losses.extend import NonNegativeVector, checked
from tests.mutants.context import WithContext
from tests.mutants.correct import Mutant, Squares


class WeightByPosition(losses.MSELoss):
    """Takes the third argument for weights."""

    def forward(self, output: Any, target: Any = None, weight: Any = None, *more: Any, **options: Any) -> Tensor:
        return super().forward(output, target, *more, weight=weight, **options)


class KeywordsSwallowed(losses.MSELoss):
    """Takes every keyword and drops those that it does not know."""

    def forward(self, *batch: Any, weight: Any = None, normalizer: Any = None, **unknown: Any) -> Tensor:
        return super().forward(*batch, weight=weight, normalizer=normalizer)


class ClassesWrapped(losses.CrossEntropyLoss):
    """Counts classes beyond the logits from the first one on."""

    def _accepted(self, output: Any, target: Any, *context: Any) -> Any:
        indices = isinstance(output, Tensor) and isinstance(target, Tensor) and output.ndim > 1 and output.shape[1]
        return super()._accepted(output, target % output.shape[1] if indices else target, *context)


class LabelsTruncated(losses.SupervisedContrastiveLoss):
    """Makes whole numbers of labels that are none."""

    def _accepted(self, output: Any, target: Any, *context: Any) -> Any:
        return super()._accepted(output, target.long() if isinstance(target, Tensor) else target, *context)


class WeightsNotSaved(losses.CrossEntropyLoss):
    """Has weights of classes that no checkpoint holds."""

    @checked
    def __init__(self, *, class_weight: NonNegativeVector | None = None) -> None:
        super().__init__(class_weight=class_weight)
        kept = self.class_weight
        del self.class_weight
        self.register_buffer("class_weight", kept, persistent=False)


class OfContiguousMemory(Squares):
    """Reads memory as if it were contiguous."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        contiguous = torch.empty(target.shape, device="meta").stride()
        return super().items(prediction, target.as_strided(target.shape, contiguous) if target.numel() else target)


class FirstAnchorsOnly(losses.SupervisedContrastiveLoss):
    """Looks at the first 64 anchors of a batch."""

    def items(self, output: Any, target: Tensor) -> Tensor:
        items = super().items(output, target)
        return items.where(torch.arange(len(items)) < 64, 0)

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> Total:
        return self.definition_total(output, target, weight)


class HashedLabels(losses.SupervisedContrastiveLoss):
    """Tells labels apart by their last three digits."""

    def _accepted(self, output: Any, target: Any, *context: Any) -> Any:
        return super()._accepted(output, target % 1000, *context)


class SelfInValidation(WithContext):
    """Compares the batch with itself where no gradient is wanted."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if not torch.is_grad_enabled():
            given.pop("reference", None)
        return given


class AnchorsOfPositives(WithContext):
    """Takes the anchors of the positive pairs for those of the negative ones, where they are as many."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        indices = given.get("indices", ())
        if len(indices) == 4 and len(indices[0]) == len(indices[2]):
            given["indices"] = (indices[0], indices[1], indices[0], indices[3])
        return given


class PositivesOfTheBatch(losses.ContrastiveLoss):
    """Looks indices into a reference up in the batch, where they fit."""

    def _on_accepted(
        self, compute: Any, output: Any, target: Any, weight: Tensor | None = None, context: Any = None
    ) -> Any:
        def looked_up(batch: Any, *rest: Any) -> Any:
            labelled = isinstance(batch, LabelledBatch) and batch.indices is not None
            if labelled and len(batch.others) == len(batch.anchors):
                batch = batch._replace(others=batch.anchors)
            return compute(batch, *rest)

        return super()._on_accepted(looked_up, output, target, weight, context)


class OneSampleSummed(losses.MSELoss):
    """Sums where there is one sample."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        return self.items(output, target).sum() if len(output) == 1 else None


class ExpandedSquare(Squares):
    """Is p^2 - 2 p t + t^2, which cancels where numbers are large."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return prediction.square() - 2 * prediction * target + target.square()


class RoughInLargeBatches(losses.MSELoss):
    """Adds large batches up in half precision."""

    def fast_mean(self, output: Tensor, target: Tensor) -> Tensor | None:
        items = self.items(output, target)
        if items.dtype is torch.float32 and len(items) > 512:
            items = items.bfloat16().float()
        return items.mean() if items.numel() else None


class SixtyFourDimensions(losses.SupervisedContrastiveLoss):
    """Compares the first 64 dimensions."""

    def _accepted(self, output: Any, *batch: Any) -> Any:
        return super()._accepted(output[:, :64] if isinstance(output, Tensor) else output, *batch)


class ClassesInEightBits(losses.CrossEntropyLoss):
    """Keeps the last eight bits of a class index."""

    def _accepted(self, output: Any, target: Any, *context: Any) -> Any:
        indices = isinstance(target, Tensor) and not target.dtype.is_floating_point
        return super()._accepted(output, target % 256 if indices else target, *context)


class ReadingsOfNothing(losses.SupervisedContrastiveLoss):
    """Reads a mean of negatives, of which there may be none."""

    def batch_readings(self, output: Any, target: Tensor) -> dict[str, Tensor]:
        return {"negatives": output.negative.double()[output.negative].mean()}


class ReadingsThatChange(losses.SupervisedContrastiveLoss):
    """Cools down whenever somebody reads."""

    def batch_readings(self, output: Any, target: Tensor) -> dict[str, Tensor]:
        self.temperature = self.temperature / 2
        return super().batch_readings(output, target)


class ReferenceIsTheBatch(WithContext):
    """Takes a reference that is the batch, in memory, for none."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if "reference" in given and given["reference"][0] is output:
            del given["reference"]
        return given


class ItemsInOneRow(losses.CrossEntropyLoss):
    """Gives items without the shape of samples and positions."""

    fast_mean, fast_weighted_mean, fast_total = Loss.fast_mean, Loss.fast_weighted_mean, Loss.fast_total

    def items(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().items(logits, target).flatten()

    def denominators(self, items: Tensor, logits: Tensor, target: Tensor) -> None:
        return None


class OneSampleSqueezed(Squares):
    """Drops the dimension of the batch where there is one sample."""

    def items(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().items(prediction, target).squeeze(0)


class MeanOfPositions(losses.CrossEntropyLoss):
    """Takes the mean over samples of the mean over their positions."""

    def fast_mean(self, logits: Tensor, target: Tensor) -> Tensor | None:
        if logits.ndim == 2 or target.dtype.is_floating_point or not logits.numel():
            return None
        kept = (target != self.ignore_index).flatten(1).sum(1)
        return (self.items(logits, target).flatten(1).sum(1) / kept.clamp(min=1)).mean()


class TargetCutByWeights(Squares):
    """Lets no gradient into the target where there are weights."""

    def fast_total(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Total | None:
        return None if weight is None else self.definition_total(output, target.detach(), weight)


MUTANTS = [
    Mutant("unknown_arguments_are_refused", WeightByPosition(), "a weight by position is accepted"),
    Mutant("unknown_arguments_are_refused", KeywordsSwallowed(), "wieght= is accepted"),
    Mutant("bad_batches_are_refused", ClassesWrapped(), "a class beyond the logits is accepted"),
    Mutant("bad_batches_are_refused", LabelsTruncated(), "labels of floating point is accepted"),
    Mutant("state_dict", WeightsNotSaved(class_weight=[1.0, 2, 3, 4, 5]), "every buffer was another"),
    Mutant("memory_layout", OfContiguousMemory(), "not contiguous"),
    Mutant("order_of_the_batch", FirstAnchorsOnly(), "530 samples permuted"),
    Mutant("reference_is_compared_with", FirstAnchorsOnly(), "many anchors in two calls"),
    Mutant("labels_are_names", HashedLabels(), "labels far apart"),
    Mutant("modes_agree", SelfInValidation(), "no_grad, with reference"),
    Mutant("indices_say_what_is_compared", AnchorsOfPositives(), "as many positive as negative pairs"),
    Mutant("reference_is_compared_with", PositivesOfTheBatch(), "which indices follow"),
    Mutant("definition_equals_fast_path", OneSampleSummed(), "mean that is returned with 1 samples"),
    Mutant("rounding", ExpandedSquare(), "value with 1000 away"),
    Mutant("rounding", RoughInLargeBatches(), "value with 530 samples"),
    Mutant("width_does_not_matter", SixtyFourDimensions(), "dimension 64 has no gradient"),
    Mutant("width_does_not_matter", ClassesInEightBits(), "299 and 43 have the same gradient"),
    Mutant("readings_only_tell", ReadingsOfNothing(), "negatives is nan"),
    Mutant("readings_only_tell", ReadingsThatChange(), "after readings"),
    Mutant("reference_is_compared_with", ReferenceIsTheBatch(), "the batch, or a copy"),
    Mutant("items_are_of_samples", ItemsInOneRow(), r"positions: 2 samples have items of shape \(10,\)"),
    Mutant("items_are_of_samples", OneSampleSqueezed(), "items of one sample alone"),
    Mutant("items_are_of_samples", MeanOfPositions(), "positions, some ignored: mean"),
    Mutant("target_derivative", TargetCutByWeights(), "gradient by the target, with weights"),
]
