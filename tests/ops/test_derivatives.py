"""Losses in blocks under everything that differentiates: higher orders, transforms, compilers, checkpoints."""

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from losses.ops.tiles.blocks import Tiles
from tests.ops.tile_cases import (
    ONE_OF_EACH,
    TileCase,
    assert_near,
    function,
    in_blocks,
    one_of_each,
    plainly,
    shrink,
    small,
    total,
    without_torchs_own_remarks,
)


@pytest.fixture(autouse=True)
def no_dense_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    in_blocks(monkeypatch)


@one_of_each
def test_second_derivatives_equal_those_of_the_plain_composition(case: TileCase, made: list[Tiles]) -> None:
    batch = small()
    found = []
    for plain in (False, True):
        leaf = batch.embeddings.clone().requires_grad_()
        made.clear()
        if plain:
            with plainly():
                value = function(case, batch)(leaf)
        else:
            value = function(case, batch)(leaf)
            assert made
        (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), leaf)
        found.append([value.detach(), gradient.detach(), second])
    assert_near(*found, 1e-10)
    assert found[0][2].any()


@pytest.mark.parametrize("case", [case for case in ONE_OF_EACH if case.name != "circle"], ids=str)
def test_first_and_second_derivatives_are_those_of_the_value(case: TileCase) -> None:
    batch = small(6)
    leaf = batch.embeddings.requires_grad_()
    assert torch.autograd.gradcheck(function(case, batch), leaf)
    assert torch.autograd.gradgradcheck(function(case, batch), leaf)


@one_of_each
def test_a_graph_that_is_kept_gives_the_same_gradient_again(case: TileCase) -> None:
    batch = small()
    leaf = batch.embeddings.requires_grad_()
    value = function(case, batch)(leaf)
    first, again = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    (last,) = torch.autograd.grad(3 * value, leaf)
    assert torch.equal(first, again)
    torch.testing.assert_close(last, 3 * first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, leaf)


@without_torchs_own_remarks
@one_of_each
def test_hessians_of_autograd_and_of_transforms_are_equal(case: TileCase) -> None:
    batch = small(6)
    of_autograd = torch.autograd.functional.hessian(function(case, batch), batch.embeddings)
    with plainly():
        plain = torch.autograd.functional.hessian(function(case, batch), batch.embeddings)
    assert_near([of_autograd], [plain], 1e-10)
    assert_near([torch.func.hessian(function(case, batch))(batch.embeddings)], [plain], 1e-10)


@without_torchs_own_remarks
@one_of_each
def test_transforms_equal_backward(case: TileCase) -> None:
    batch = small()
    of_embeddings, points = function(case, batch), batch.embeddings
    leaf = points.clone().requires_grad_()
    value = of_embeddings(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    direction = torch.randn(points.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert_near([torch.func.grad(of_embeddings)(points)], [gradient], 1e-11)
    primal, slope = torch.func.jvp(of_embeddings, (points,), (direction,))
    assert_near([primal, slope], [value.detach(), (gradient * direction).sum()], 1e-10)
    several = torch.stack([points, points + direction / 10, points * 2])
    expected = torch.stack([of_embeddings(each) for each in several])
    assert_near([torch.func.vmap(of_embeddings)(several)], [expected], 1e-11)
    slopes = torch.stack([torch.func.grad(of_embeddings)(each) for each in several])
    assert_near([torch.func.vmap(torch.func.grad(of_embeddings))(several)], [slopes], 1e-11)


@without_torchs_own_remarks
@one_of_each
def test_forward_mode_gives_the_directional_derivative(case: TileCase) -> None:
    batch = small()
    leaf = batch.embeddings.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(case, batch)(leaf), leaf)
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    with forward_ad.dual_level():
        value = function(case, batch)(forward_ad.make_dual(batch.embeddings, direction))
        tangent = forward_ad.unpack_dual(value).tangent
    assert tangent is not None
    assert_near([tangent], [(gradient * direction).sum()], 1e-10)


@one_of_each
def test_many_gradients_may_be_asked_for_at_once(case: TileCase) -> None:
    batch = small()
    leaf = batch.embeddings.requires_grad_()
    sums = total(case, batch._replace(embeddings=leaf)).sum.reshape(-1)
    asked = torch.randn(3, len(sums), generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    (together,) = torch.autograd.grad(sums, leaf, asked, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(sums, leaf, single, retain_graph=True)[0] for single in asked]
    assert_near([together], [torch.stack(each)], 1e-11)


@pytest.mark.parametrize("case", [ONE_OF_EACH[place] for place in (0, 3, 5, 8, 9, 10, 11)], ids=str)
def test_a_compiled_loss_equals_it_in_eager_mode(case: TileCase) -> None:
    batch = small()
    torch._dynamo.reset()
    results = []
    for of_embeddings in (
        function(case, batch),
        torch.compile(function(case, batch), fullgraph=True, backend="aot_eager"),
    ):
        leaf = batch.embeddings.clone().requires_grad_()
        value = of_embeddings(leaf)
        results.append([value.detach(), torch.autograd.grad(value, leaf)[0]])
    assert_near(*results, 1e-11)


@one_of_each
def test_a_checkpoint_around_the_loss_changes_nothing_and_repeats_it_once(
    case: TileCase, made: list[Tiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch, 8, 1)
    batch = small()
    leaf = batch.embeddings.clone().requires_grad_()
    expected = torch.autograd.grad(function(case, batch)(leaf), leaf)
    for reentrant in (False, True):
        made.clear()
        again = leaf.detach().requires_grad_()
        value = checkpoint(function(case, batch), again, use_reentrant=reentrant)
        value.backward()
        assert len(made) == 2
        assert again.grad is not None
        assert torch.equal(again.grad, expected[0])


@one_of_each
def test_autocast_changes_nothing(case: TileCase) -> None:
    batch = small()._replace(embeddings=small().embeddings.float())
    leaf = batch.embeddings.clone().requires_grad_()
    value = function(case, batch)(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    with torch.autocast("cpu", torch.bfloat16):
        inside = function(case, batch)(leaf)
    assert torch.equal(inside, value)
    assert torch.equal(torch.autograd.grad(inside, leaf)[0], gradient)


@one_of_each
def test_strides_of_the_embeddings_do_not_matter(case: TileCase) -> None:
    batch = small()
    leaf = batch.embeddings.clone().requires_grad_()
    expected = torch.autograd.grad(function(case, batch)(leaf), leaf)[0]
    wide = torch.zeros(16, 7, dtype=torch.float64)
    views = (
        batch.embeddings.mT.contiguous().mT,
        wide[::2, 1::2],
        torch.zeros(8, dtype=torch.float64).expand(3, 8).mT.clone(),
    )
    for view in views:
        view.copy_(batch.embeddings)
        leaf = view.detach().requires_grad_()
        assert_near([torch.autograd.grad(function(case, batch)(leaf), leaf)[0]], [expected], 1e-12)


@one_of_each
def test_without_a_gradient_the_value_is_the_same_and_nothing_is_kept(case: TileCase, made: list[Tiles]) -> None:
    batch, kept = small(), []
    leaf = batch.embeddings.clone().requires_grad_()
    expected = function(case, batch)(leaf).detach()
    made.clear()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        constant = function(case, batch)(batch.embeddings)
        with torch.no_grad():
            unseen = function(case, batch)(leaf)
        with torch.inference_mode():
            inferred = function(case, batch)(batch.embeddings.clone())
    assert made
    assert not kept
    assert not any(each.differentiable for each in made)
    for value in (constant, unseen, inferred):
        assert not value.requires_grad
        assert torch.equal(value, expected)


@one_of_each
def test_a_loss_used_twice_in_one_graph_gives_the_sum_of_its_gradients(case: TileCase) -> None:
    batch = small()
    leaf, of_embeddings = batch.embeddings.clone().requires_grad_(), function(case, batch)
    gradients = [
        torch.autograd.grad(of_embeddings(points), leaf)[0] for points in (leaf, leaf * 2 + 0.1 * leaf.flip(0))
    ]
    (both,) = torch.autograd.grad(of_embeddings(leaf) + 2 * of_embeddings(leaf * 2 + 0.1 * leaf.flip(0)), leaf)
    assert_near([both], [gradients[0] + 2 * gradients[1]], 1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
@one_of_each
def test_embeddings_overwritten_after_forward_are_noticed_or_do_not_matter(case: TileCase, create_graph: bool) -> None:
    batch = small()
    points = batch.embeddings.clone().requires_grad_() * 1
    (expected,) = torch.autograd.grad(function(case, batch)(points), points, create_graph=create_graph)
    value = function(case, batch)(points)
    with torch.no_grad():
        points.add_(1)
    keeps_copies = case.of_pairs or case.parameters.get("mining") == "hard"
    try:
        (gradient,) = torch.autograd.grad(value, points, create_graph=create_graph)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        assert keeps_copies
        assert_near([gradient.detach()], [expected.detach()], 1e-12)
