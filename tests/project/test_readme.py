"""What the README promises in words and numbers, at the edge of the words."""

import json
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from torch import nn

import losses
from losses import InputError
from losses.networks import SiameseNetwork
from tests.largest_tensor import Largest

ROOT = Path(__file__).parents[2]
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
SIZE = 1500  # more than one block


def test_the_numbers_of_the_summary_are_those_that_were_measured() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "metric.json").read_text(encoding="utf-8"))["rows"]
    measured = {row["name"]: row for row in rows}
    assert "a batch of 1024 at a hundredth of the time and of the memory" in TEXT
    triplets = measured["triplet-all-1024"]
    assert triplets["peer"] == "PML"
    assert triplets["milliseconds"]["peer"] >= 100 * triplets["milliseconds"]["ours"]
    assert triplets["memory"]["peer"] >= 100 * triplets["memory"]["ours"]
    assert "a batch of 16,384 in 50 MiB" in TEXT
    assert measured["triplet-all-16384"]["memory"]["ours"] <= 50 * 2**20


def test_what_is_said_of_many_classes_was_measured() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "classification.json").read_text(encoding="utf-8"))["rows"]
    (row,) = (row for row in rows if row["name"] == "ce-linear-1024x256x32768")
    assert "on a CPU of 1024 rows and 32,768 classes in an eighth of the memory" in TEXT
    assert round(row["memory"]["peer"] / row["memory"]["ours"]) == 8
    assert "and 1.2 to 1.5 times as fast" in TEXT
    assert 1.2 <= row["peer_over_ours"]["median"] <= 1.5


def test_what_closes_the_gap_is_what_was_measured() -> None:
    assert "penalties and early stopping close 35 to 50 % of the gap, label smoothing little" in TEXT
    assert "and the accuracy stays within its spread" in TEXT
    rows = json.loads((ROOT / "docs" / "choosing" / "few_samples.json").read_text(encoding="utf-8"))["rows"]
    measured = {row["answer"]: {name: fmean(values) for name, values in row["measured"].items()} for row in rows}
    alone = measured.pop("binary_cross_entropy")
    closed = {answer: 1 - each["gap"] / alone["gap"] for answer, each in measured.items()}
    assert 0 < closed.pop("binary_cross_entropy, smoothed") < 0.2
    assert len(closed) == 4
    assert all(0.35 <= round(part, 2) <= 0.5 for part in closed.values())
    (spread,) = (stdev(row["measured"]["accuracy"]) for row in rows if row["answer"] == "binary_cross_entropy")
    assert all(abs(each["accuracy"] - alone["accuracy"]) <= spread for each in measured.values())


def test_the_losses_are_listed_within_two_screens_after_pictures_and_code() -> None:
    before = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The losses")[0]
    assert len(before.splitlines()) <= 60
    assert before.index("verification.png") < before.index("```python") < before.index("```yaml")
    for code in re.findall(r"```(?:python|yaml)\n(.*?)```", before, re.DOTALL):
        assert len(code.strip().splitlines()) <= 5


@pytest.mark.parametrize("name", losses.available("metric"))
def test_a_labelled_batch_makes_no_matrix_of_all_distances_and_what_is_excepted_may(name: str) -> None:
    assert "not in blocks but with all N² distances" in TEXT
    loss, embeddings = losses.create(name), torch.randn(SIZE, 4, requires_grad=True)
    labels = torch.arange(SIZE) // 4
    with Largest() as plain:
        loss(embeddings, labels).backward()
    assert plain.elements < SIZE * SIZE / 2
    with Largest() as learnt:
        loss(embeddings, labels, weight=torch.ones(SIZE, requires_grad=True)).backward()
    assert learnt.elements >= SIZE * SIZE / 2, "the README may promise more"


def test_the_siamese_network_of_the_readme_always_finds_a_threshold() -> None:
    for seed in range(200):
        torch.manual_seed(seed)
        network = SiameseNetwork(nn.Linear(4, 2))
        first, same = torch.randn(8, 4), torch.arange(8) % 2
        second = torch.where(same[:, None] > 0, first + 0.01, torch.randn(8, 4))
        assert 0 < network.calibrate((first, second), same) < torch.inf
        assert network.verify(first, second)[same > 0].all()


@pytest.mark.parametrize("when", ["always", "first", "never"])
@pytest.mark.parametrize("name", losses.available("metric"))
def test_indices_that_point_nowhere_are_refused_on_every_call(name: str, when: str) -> None:
    loss, embeddings, labels = losses.create(name).eval(), torch.randn(4, 2), torch.tensor([0, 0, 1, 1])
    good = tuple(torch.tensor([place]) for place in (0, 1, 2))
    with losses.checks(when):
        for _ in range(2):
            loss(embeddings, labels, indices=good)
            for bad in (4, -1):
                with pytest.raises(InputError, match="negative runs from"):
                    loss(embeddings, labels, indices=(*good[:2], torch.tensor([bad])))


def test_commands_call_the_python_that_make_made() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not re.findall(r"(?<![/\w.-])python (?:-m|-c|examples)\S*", text), page
