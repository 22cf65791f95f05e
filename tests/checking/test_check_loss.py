"""What check_loss reports, on losses, on plain modules, and where it is asked wrongly."""

import dataclasses
import re
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import losses
from losses import ConfigError
from losses.checking import CLAUSES, Case, Clause, cases_of, check_loss, verdict
from losses.checking.case import EXACT
from losses.checking.clauses.surroundings import settings
from losses.core.checks import require_between
from losses.core.inputs import LOGITS, POINTWISE, Batch, Pointwise
from tests.mutants import MUTANTS
from tests.mutants.correct import Mutant, Squares
from tests.mutants.derivatives import DetachedOutput
from tests.mutants.edges import VanishingEpsilon
from tests.mutants.invariances import Counting


def test_a_fault_of_one_precision_is_reported_for_that_precision_alone() -> None:
    (failure,) = check_loss(VanishingEpsilon(), clauses=["equal_points"]).failures
    assert failure.precision == "float16"


def test_a_fault_of_one_option_is_found_when_the_class_is_checked() -> None:
    class WrongSquare(losses.HingeLoss):
        def items(self, scores: Tensor, target: Tensor) -> Tensor:
            return super().items(scores, target) * (1 if self.power == 1 else -1)

    assert not check_loss(WrongSquare(), clauses=["keeps_its_laws"]).failures
    (failure,) = check_loss(WrongSquare, clauses=["keeps_its_laws"]).failures
    assert "power=2" in failure.seen


def test_whatever_a_loss_raises_is_a_verdict_and_not_the_end_of_the_report() -> None:
    class Raising(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            raise ZeroDivisionError("of all things")

    failures = check_loss(Raising(), clauses=["first_derivative", "copies"]).failures
    assert [failure.clause for failure in failures] == ["first_derivative", "copies"]
    assert all("ZeroDivisionError: of all things" in failure.seen for failure in failures)


def test_a_loss_that_gives_no_number_breaks_one_clause_and_no_thirty() -> None:
    class Silent(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            return None  # type: ignore[return-value]  # wrong on purpose

    (failure,) = check_loss(Silent()).verdicts
    assert failure.clause == "gives_a_loss"


def test_an_edge_that_is_not_kept_names_its_batch() -> None:
    class Ratio(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            return super().items(prediction, target) / target.abs().sum()

    failures = check_loss(Ratio(), clauses=["equal_points"]).failures
    assert "batch 2 of 2, at output 0, 0, 0, 0" in failures[0].seen


def test_exemptions_of_a_module_that_is_not_ours_are_declared_with_their_reason() -> None:
    module = torch.nn.PoissonNLLLoss()
    (verdict,) = check_loss(
        module, inputs=POINTWISE, clauses=["one_item"], exemptions={"one_item": "on purpose"}
    ).verdicts[:1]
    assert verdict.outcome == "declared"
    assert "on purpose" in verdict.seen
    with pytest.raises(ConfigError, match="there is no clause 'one_itm'"):
        check_loss(module, inputs=POINTWISE, exemptions={"one_itm": "on purpose"})


@pytest.mark.parametrize("name", losses.available())
def test_every_regime_of_our_kinds_is_in_the_domain_of_our_losses(name: str) -> None:
    for case in cases_of(name):
        assert set(case.regimes()) == {"usual numbers", *case.kind.regimes(case.loss, case.batch())}


def test_a_regime_that_a_kind_refuses_is_not_held_against_a_loss() -> None:
    class Fractions(Pointwise):
        """Predictions from 0 to 1."""

        name = "FRACTIONS"

        def inspect(self, loss: Any, output: Tensor, target: Tensor) -> None:
            super().inspect(loss, output, target)
            require_between(0, 1, "a fraction of a whole", output=output, target=target)

        def draw(self, loss: Any, size: int, generator: torch.Generator) -> Batch:
            output, target = torch.rand(2, size, 3, generator=generator, dtype=torch.float64)
            return Batch(output.requires_grad_(), target)

    class OfFractions(Squares):
        spec = dataclasses.replace(losses.MSELoss.spec, inputs=(Fractions(),))

    clauses = ["gradient_everywhere", "definition_equals_fast_path", "rounding", "second_derivative"]
    assert not check_loss(OfFractions(), clauses=clauses).failures


def test_a_declared_exception_is_shown_with_its_reason_and_is_no_failure() -> None:
    class Excused(DetachedOutput):
        exemptions: ClassVar = {"first_derivative": "half of it is a constant, on purpose"}

    report = check_loss(Excused(), clauses=["first_derivative", "one_item"])
    assert [verdict.outcome for verdict in report.verdicts] == ["declared", *["kept"] * 5]
    assert "not so, half of it is a constant, on purpose" in str(report)
    report.raise_for_failures()


def test_an_unknown_clause_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no clause 'empty_bach'.*Did you mean 'empty_batch'"):
        check_loss("mse", clauses=["empty_bach"])


def test_a_plain_module_is_checked_on_the_kind_of_input_it_is_given() -> None:
    report = check_loss(torch.nn.L1Loss(), inputs=POINTWISE, clauses=["equal_points", "func_grad"])
    assert report.loss == "L1Loss"
    assert {verdict.outcome for verdict in report.verdicts} == {"kept"}


def test_a_plain_module_is_not_offered_what_only_a_loss_has() -> None:
    of_the_call = [name for name, clause in CLAUSES.items() if clause.of_the_call]
    report = check_loss(torch.nn.L1Loss(), inputs=POINTWISE, clauses=["order_of_the_batch", *of_the_call])
    assert (
        list(dict.fromkeys(verdict.clause for verdict in report.verdicts if verdict.outcome == "not offered"))
        == of_the_call
    )
    assert not report.failures


def test_faults_of_a_plain_module_are_found() -> None:
    report = check_loss(torch.nn.CrossEntropyLoss(), inputs=LOGITS, clauses=["everything_ignored", "one_class"])
    assert {failure.clause for failure in report.failures} == {"everything_ignored"}


def test_a_module_that_does_not_say_what_it_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="L1Loss does not say what it takes: pass inputs="):
        check_loss(torch.nn.L1Loss())


def test_a_report_is_a_table_of_clause_verdict_and_what_was_seen() -> None:
    clauses = ["keeps_its_laws", "equal_points", "zero_vectors", "equals_its_oracle", "inputs_stay_untouched"]
    title, *rows, summary = str(check_loss(VanishingEpsilon(), clauses=clauses)).splitlines()
    assert summary == "1 kept, 2 not applicable, 2 broken"
    assert title == "mae"
    assert [re.split(r"  +", row)[:2] for row in rows] == [
        ["keeps_its_laws", "broken"],
        ["equal_points", "kept"],
        ["equal_points", "broken"],
        ["zero_vectors", "not applicable"],
        ["equals_its_oracle", "not applicable"],
        ["inputs_stay_untouched", "kept"],
    ]
    assert len({row.index(re.split(r"  +", row)[1]) for row in rows}) == 1, "columns are aligned"
    assert rows[2].endswith("(float16)")
    assert "POINTWISE has no such edge" in rows[3]
    assert "no oracle was given" in rows[4]
    assert rows[5].endswith("inputs are never modified, nor are weights and normalizer")


def test_raise_for_failures_names_every_broken_clause_and_no_other() -> None:
    report = check_loss(Counting(), clauses=["no_state_between_calls", "reductions_agree", "one_item"])
    with pytest.raises(AssertionError, match="mse breaks 2 clauses") as raised:
        report.raise_for_failures()
    assert "no_state_between_calls" in str(raised.value)
    assert "reductions_agree" in str(raised.value)
    assert "one_item" not in str(raised.value)


def test_nothing_is_raised_where_nothing_is_broken() -> None:
    check_loss("mse", clauses=["one_item", "zero_vectors", "equals_its_oracle"]).raise_for_failures()


def test_a_clause_that_takes_long_is_run_with_the_default_parameters_of_every_kind() -> None:
    seen = []

    def look(case: Case) -> None:
        seen.append((str(case.kind), case.loss.config()))

    once = Clause("look", "it is looked at", look, (EXACT,), of_the_call=False, scope="each kind")
    cases = list(cases_of("contrastive"))
    assert len(cases) > 2
    assert verdict(once, cases, EXACT).outcome == "kept"
    default = losses.create("contrastive").config()
    assert sorted(seen, key=str) == [("EMBEDDINGS", default), ("PAIRS", default)]


@pytest.mark.parametrize("clause", ["settings_stay", "one_item"])
@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.clause == "settings_stay"], ids=lambda mutant: repr(mutant)
)
def test_settings_that_a_loss_changes_are_put_back(mutant: Mutant, clause: str) -> None:
    before = settings()
    check_loss(mutant.loss, clauses=[clause])
    assert settings() == before


def test_what_a_dtype_cannot_hold_is_forgiven_and_what_overflows_on_the_way_is_not() -> None:
    class Cubes(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            return (prediction - target).abs() ** 3  # its gradient at 1e4 exceeds float16

    class Overflowing(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            residual = (prediction - target) * 1e30
            return residual.square() / 1e60  # exceeds float32, where the result does not

    class Infinite(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            return super().items(prediction, target) / (prediction.abs() < 5e3)

    assert not check_loss(Cubes(), clauses=["extreme_values"]).failures
    assert {each.precision for each in check_loss(Overflowing(), clauses=["extreme_values"]).failures} >= {"float32"}
    assert "float64" in {each.precision for each in check_loss(Infinite(), clauses=["extreme_values"]).failures}


def test_a_residual_that_costs_an_exponential_may_exceed_every_number() -> None:
    class Exponential(Squares):
        def items(self, prediction: Tensor, target: Tensor) -> Tensor:
            return torch.expm1(3 * (target - prediction)) + prediction - target

    assert not check_loss(Exponential(), clauses=["extreme_values"]).failures
