"""Collapse metrics against numpy, their edges, and the effective rank as training reads it."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import entropy
from torch import Tensor

import losses.diagnostics as diagnostics
from losses import InputError
from losses.diagnostics import collapse
from losses.ops.numerics.spectrum import effective_rank


def cloud(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    rows, columns = (int(size) for size in torch.randint(2, 12, (2,), generator=random))
    embeddings = (
        torch.randn(rows, columns, generator=random, dtype=torch.float64) * torch.arange(1, columns + 1) + seed % 3
    )
    if seed % 2:
        embeddings[:, 0] = 0.1
    return embeddings


@pytest.mark.parametrize("seed", range(20))
def test_figures_are_those_of_numpy(seed: int) -> None:
    embeddings = cloud(seed).numpy()
    residual = embeddings - embeddings.mean(0)
    singular = numpy.linalg.svd(residual, compute_uv=False)
    metrics = collapse(torch.from_numpy(embeddings))
    assert metrics.effective_rank == pytest.approx(math.exp(entropy(singular)), rel=1e-9)
    assert metrics.deviation == pytest.approx(numpy.linalg.norm(residual, axis=1).mean(), rel=1e-9)
    variances = numpy.linalg.eigvalsh(numpy.atleast_2d(numpy.cov(embeddings.T)))
    assert metrics.leading_variance_ratio == pytest.approx(variances[-1] / variances.sum(), rel=1e-9)
    assert metrics.mean_cosine == pytest.approx(1 - pdist(embeddings, "cosine").mean(), abs=1e-9)
    assert metrics.dead_dimensions == (embeddings.std(0) < 1e-12).mean()


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12], ids=str)
def test_equally_used_directions_are_counted(rank: int, scale: float) -> None:
    cross = torch.cat([torch.eye(rank, 7, dtype=torch.float64), -torch.eye(rank, 7, dtype=torch.float64)])
    turned = (
        scale
        * cross
        @ torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    )
    metrics = collapse(turned + scale)
    assert metrics.effective_rank == pytest.approx(rank, rel=1e-6)
    assert metrics.leading_variance_ratio == pytest.approx(1 / rank)
    assert metrics.deviation == pytest.approx(scale)


@pytest.mark.parametrize(
    ("embeddings", "expected"),
    [
        (torch.full((5, 3), 0.1, dtype=torch.float64), (0, 0, 1, 1, 1)),
        (torch.full((7, 3), 0.1), (0, 0, 1, 1, 1)),
        (torch.zeros(5, 3), (0, 0, 1, 0, 1)),
        (torch.tensor([[0.3, -1.2, 0.7]]), (0, 0, 1, 1, 1)),
        (torch.zeros(0, 3), (0, 0, 1, 1, 1)),
        (torch.zeros(5, 0), (0, 0, 1, 0, 1)),
        (torch.zeros(0, 0), (0, 0, 1, 1, 1)),
        (torch.tensor([[1.0, 7.0], [-1.0, 7.0]]), (1, 1, 1, 0.96, 0.5)),
        (torch.tensor([[1.0], [-1.0]], dtype=torch.bfloat16), (1, 1, 1, -1, 0)),
        (torch.tensor([[0.5], [0.5], [2.0]], dtype=torch.float8_e5m2).requires_grad_(), (1, 2 / 3, 1, 1, 0)),
    ],
    ids=lambda value: str(tuple(value.shape)) if isinstance(value, Tensor) else "metrics",
)
def test_edges_have_the_values_that_are_documented(embeddings: Tensor, expected: tuple[float, ...]) -> None:
    metrics = collapse(embeddings)
    assert metrics == pytest.approx(expected, abs=1e-12)
    assert all(type(figure) is float for figure in metrics)
    assert float(effective_rank(embeddings)) == pytest.approx(expected[0], abs=1e-12)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9], ids=str)
def test_an_offset_does_not_hide_or_make_a_rank(offset: float) -> None:
    embeddings = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert float(effective_rank(embeddings + offset)) == pytest.approx(float(effective_rank(embeddings)), rel=1e-5)
    assert effective_rank(torch.full((9, 4), offset / 3, dtype=torch.float64)) == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_effective_rank_of_what_is_not_finite_is_nan_and_stops_nothing(bad: float, dtype: torch.dtype) -> None:
    embeddings = torch.randn(6, 3).to(dtype)
    embeddings[2, 1] = bad
    assert effective_rank(embeddings).isnan()
    with pytest.raises(InputError, match="embeddings must be"):
        collapse(embeddings)


def test_the_effective_rank_reads_nothing_and_has_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> None:
        raise AssertionError("a value was read")

    for name in ("item", "__bool__", "__float__", "__int__", "tolist"):
        monkeypatch.setattr(Tensor, name, read)
    for embeddings in (torch.randn(8, 3, requires_grad=True), torch.zeros(0, 3), torch.zeros(4, 3)):
        rank = effective_rank(embeddings)
        assert rank.shape == ()
        assert not rank.requires_grad


@pytest.mark.parametrize(
    "embeddings", [torch.zeros(3), torch.zeros(3, 2).long(), [[1.0, 2.0]], torch.zeros(2, 2).to_sparse()], ids=str
)
def test_what_are_no_embeddings_is_refused(embeddings: Any) -> None:
    with pytest.raises(InputError, match="embeddings must"):
        collapse(embeddings)


def test_the_folder_exports_what_all_says() -> None:
    assert sorted(diagnostics.__all__) == diagnostics.__all__
    assert all(callable(getattr(diagnostics, name)) for name in diagnostics.__all__)
