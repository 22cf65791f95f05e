"""Broken losses of labelled batches: in their blocks, with a miner's indices, beside a reference set."""

from typing import Any

import torch
from torch import Tensor

import losses
from losses.core.labelled import LabelledBatch
from losses.core.loss import Loss
from losses.extend import Tiling
from losses.ops.tiles.blocks import Tiles
from losses.ops.tiles.differentiable import TileSums
from tests.mutants.correct import Mutant


class InBlocks(losses.SupervisedContrastiveLoss):
    """Correct, with a place to do something before or after going through the blocks."""

    def before(self, tiles: Tiles) -> None:
        return None

    def after(self, tiles: Tiles, sums: TileSums) -> TileSums:
        return sums

    def tiling(self, batch: LabelledBatch) -> Tiling:
        tiling = super().tiling(batch)

        def function(tiles: Tiles, classes: Any, weight: Tensor | None) -> TileSums:
            self.before(tiles)
            return self.after(tiles, tiling.function(tiles, classes, weight))

        return tiling._replace(function=function)


class LastBlockDropped(InBlocks):
    """Forgets the rows that no whole block is left for."""

    def before(self, tiles: Tiles) -> None:
        tiles.blocks = tiles.blocks[: max(1, len(tiles.blocks) - 1)]


class GradientOfManyBlocks(InBlocks):
    """Has gradients that are too large wherever there is more than one block."""

    def after(self, tiles: Tiles, sums: TileSums) -> TileSums:
        if len(tiles.blocks) > 1 and tiles.differentiable:
            tiles.of_first.mul_(1.5)
        return sums


class CountedPerBlock(InBlocks):
    """Counts one anchor more for every block after the first."""

    def after(self, tiles: Tiles, sums: TileSums) -> TileSums:
        return TileSums(sums.sums, [count + len(tiles.blocks) - 1 for count in sums.denominators])


class AnchorsAloneCount(losses.SupervisedContrastiveLoss):
    """Divides by all anchors in the definition, and in its blocks by those that have a positive."""

    def denominators(self, items: Tensor, output: Any, target: Tensor) -> None:
        return None


class BelowAThreshold(losses.SupervisedContrastiveLoss):
    """Computes large batches with another temperature."""

    def tiling(self, batch: LabelledBatch) -> Tiling:
        return super().tiling(batch)._replace(scale=5.0 if len(batch.labels) > 512 else 1 / self.temperature)


class LabelsAreNumbers(losses.SupervisedContrastiveLoss):
    """Takes negative labels for samples without one."""

    def _on_accepted(self, compute: Any, output: Any, target: Any, *context: Any) -> Any:
        return super()._on_accepted(compute, output, torch.where(target < 0, -1, target), *context)


class LabelsOfFourBytes(losses.SupervisedContrastiveLoss):
    """Keeps the last 32 bits of a label."""

    def _on_accepted(self, compute: Any, output: Any, target: Any, *context: Any) -> Any:
        return super()._on_accepted(compute, output, target.int(), *context)


class LabelsAsFloats(losses.SupervisedContrastiveLoss):
    """Compares labels as numbers of float64, which cannot tell large ones apart."""

    def _on_accepted(self, compute: Any, output: Any, target: Any, *context: Any) -> Any:
        return super()._on_accepted(compute, output, target.double().long(), *context)


class WithContext(losses.SupervisedContrastiveLoss):
    """Correct, with a place to change what it is called with besides."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        return given

    def _on_accepted(
        self, compute: Any, output: Any, target: Any, weight: Tensor | None = None, context: Any = None
    ) -> Any:
        return super()._on_accepted(compute, output, target, weight, self.context(output, target, **(context or {})))


class IndicesIgnored(WithContext):
    """Takes indices and compares everything."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        given.pop("indices", None)
        return given


class NegativesOfTriplets(WithContext):
    """Forgets the negatives of indices that are triplets."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if len(given.get("indices", ())) == 3:
            anchor, positive, negative = given["indices"]
            given["indices"] = (anchor, positive, anchor[:1], negative[:1])
        return given


class NoIndicesIsEverything(WithContext):
    """Takes empty indices for none."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if "indices" in given and not any(len(index) for index in given["indices"]):
            del given["indices"]
        return given


class FirstIndexOnly(WithContext):
    """Takes of each anchor the index that comes first."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if len(given.get("indices", ())) == 4:
            given["indices"] = tuple(index[: len(index) // 2] for index in given["indices"])
        return given


class RepeatedPairsTwice(losses.ContrastiveLoss):
    """Squares how often indices name a pair, where it is more than once."""

    fast_mean, fast_total = Loss.fast_mean, Loss.fast_total

    def items(self, output: Any, target: Tensor) -> Tensor:
        items = super().items(output, target)
        if isinstance(output, LabelledBatch) and output.indices is not None:
            anchor, positive, _, _ = output.pairs()
            place = anchor * len(output.others) + positive
            if len(place.unique()) < len(place):
                return 2 * items
        return items


class ReferenceIgnored(WithContext):
    """Takes a reference and compares the batch with itself."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        given.pop("reference", None)
        return given


class EqualLengthIsItself(WithContext):
    """Takes a reference that is as long as the batch for the batch."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if "reference" in given and len(given["reference"][0]) == len(output):
            del given["reference"]
        return given


class ReferenceDetached(WithContext):
    """Lets no gradient into a reference."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if "reference" in given:
            given["reference"] = (given["reference"][0].detach(), given["reference"][1])
        return given


class ReferenceLabelsByPlace(WithContext):
    """Takes the labels of a reference in ascending order."""

    def context(self, output: Any, target: Any, **given: Any) -> dict[str, Any]:
        if "reference" in given:
            given["reference"] = (given["reference"][0], given["reference"][1].sort().values)
        return given


class ReferenceOfOneBlock(InBlocks):
    """Drops what is beyond the first block where it is compared with a reference."""

    def before(self, tiles: Tiles) -> None:
        if not tiles.itself:
            tiles.blocks = tiles.blocks[:1]


class PartsMeetThemselves(losses.SupervisedContrastiveLoss):
    """Takes the anchors of a part for points of a reference, and their own selves for positives."""

    def part_total(self, output: Any, target: Any, weight: Tensor | None, everyone: Any, *place: Any) -> losses.Total:
        return self._on_accepted(self._total, output, target, weight, {"reference": everyone})


class PartsAlone(losses.CircleLoss):
    """Compares a part with itself only."""

    def part_total(self, output: Any, target: Any, weight: Tensor | None, *everyone: Any) -> losses.Total:
        return self.total(output, target, weight=weight)


class PairsOfPartsTwice(losses.ContrastiveLoss):
    """Does not say that a pair is met from both its ends."""

    each_pair_once = False


class PairsOfABatchAlone(losses.ContrastiveLoss):
    """Says that a batch costs what its parts and those against one another cost, and charges a reference twice."""

    def fast_total(self, output: Any, target: Any, weight: Tensor | None) -> losses.Total | None:
        total = super().fast_total(output, target, weight)
        if total is None or not isinstance(output, LabelledBatch) or not output.has_reference:
            return total
        return total if output.place is not None else losses.Total(2 * total.sum, total.denominator)


class OthersOfPartsDetached(losses.TripletLoss):
    """Lets no gradient flow to those that a part is compared with."""

    def part_total(self, output: Any, target: Any, weight: Tensor | None, everyone: Any, *place: Any) -> losses.Total:
        return super().part_total(output, target, weight, (everyone[0].detach(), everyone[1]), *place)


MUTANTS = [
    Mutant("definition_equals_fast_path", LastBlockDropped(), "sum with usual numbers, in several blocks"),
    Mutant("definition_equals_fast_path", GradientOfManyBlocks(), "gradient with usual numbers, in several blocks"),
    Mutant("definition_equals_fast_path", CountedPerBlock(), "mean with usual numbers, in several blocks"),
    Mutant("definition_equals_fast_path", AnchorsAloneCount(), "mean with usual numbers"),
    Mutant("definition_equals_fast_path", BelowAThreshold(), "sum with 530 samples"),
    Mutant("gradient_everywhere", GradientOfManyBlocks(), "usual numbers, in several blocks|530"),
    Mutant("labels_are_names", LabelsAreNumbers(), "labels from -5"),
    Mutant("labels_are_names", LabelsOfFourBytes(), "labels far apart"),
    Mutant("labels_are_names", LabelsAsFloats(), "labels beyond float64"),
    Mutant("indices_say_what_is_compared", IndicesIgnored(), "pairs within some samples"),
    Mutant("indices_say_what_is_compared", NegativesOfTriplets(), "triplets"),
    Mutant("indices_say_what_is_compared", NoIndicesIsEverything(), "without any index"),
    Mutant("indices_say_what_is_compared", FirstIndexOnly(), "all pairs"),
    Mutant("indices_said_twice", RepeatedPairsTwice(), "all said twice"),
    Mutant("indices_said_twice", FirstIndexOnly(), "all said twice"),
    Mutant("reference_is_compared_with", ReferenceIgnored(), "another order"),
    Mutant("reference_is_compared_with", EqualLengthIsItself(), "another order"),
    Mutant("reference_is_compared_with", ReferenceLabelsByPlace(), "another order"),
    Mutant("reference_in_blocks", ReferenceOfOneBlock(), "sum beside 10 others, in several blocks"),
    Mutant("reference_in_blocks", ReferenceDetached(), "a reference of"),
    Mutant("parts_in_their_place_add_up", PartsMeetThemselves(), "sum of parts of 10"),
    Mutant("parts_in_their_place_add_up", PartsAlone(), "of parts of 10"),
    Mutant("parts_in_their_place_add_up", PairsOfPartsTwice(), "sum of parts of 10"),
    Mutant("parts_in_their_place_add_up", PairsOfABatchAlone(), "sum of dealt pairs of 10"),
    Mutant("parts_in_their_place_add_up", OthersOfPartsDetached(), "gradient of parts of 10"),
]
