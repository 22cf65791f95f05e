"""Not a single clause is broken by a correct loss."""

import pytest

from losses.checking import CLAUSES, check_loss
from losses.core.registry import SPECS
from losses.extend import Loss
from tests.correct import classification, embeddings, modules, parameters, regression, samples  # noqa: F401  (they declare)
from tests.correct.declaring import CORRECT, Correct


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the losses known, until the registry is as it was."""
    for each in CORRECT:
        if isinstance(each.loss, type):
            monkeypatch.setitem(SPECS, each.loss.spec.name, each.loss.spec)


COMPILING = [clause for clause in CLAUSES if clause.startswith(("compiles", "exports"))]
"""Clauses that take most of the time: of some of the losses, here, and of all by make integration."""


# torch's own, where it compiles a function with a derivative by hand
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("each", CORRECT, ids=repr)
def test_a_correct_loss_breaks_no_clause(each: Correct) -> None:
    some = CORRECT.index(each) % 12 == 0
    clauses = [clause for clause in CLAUSES if some or clause not in COMPILING]
    exemptions = {clause: why for clause, why in each.exemptions.items() if clause in clauses}
    report = check_loss(each.loss, inputs=each.inputs, oracle=each.oracle, exemptions=exemptions, clauses=clauses)
    report.raise_for_failures()
    kept = {verdict.clause for verdict in report.verdicts if verdict.outcome == "kept"}
    assert {"gives_a_loss", "backward_twice", "inputs_stay_untouched"} <= kept
    assert (each.oracle is None) == ("equals_its_oracle" not in kept)
    if isinstance(each.loss, type) and issubclass(each.loss, Loss):
        assert {"reductions_agree", "config_round_trip"} <= kept


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("each", CORRECT, ids=repr)
def test_every_correct_loss_is_compiled_and_exported(each: Correct) -> None:
    exemptions = {clause: why for clause, why in each.exemptions.items() if clause in COMPILING}
    check_loss(each.loss, inputs=each.inputs, clauses=COMPILING, exemptions=exemptions).raise_for_failures()


@pytest.mark.parametrize("each", CORRECT, ids=repr)
def test_an_exemption_is_needed(each: Correct) -> None:
    cls = each.loss if isinstance(each.loss, type) else None
    for clause in each.exemptions if cls is None else cls.exemptions:
        bare = each.loss if cls is None else type(cls.__name__, (cls,), {"exemptions": {}})
        assert check_loss(bare, inputs=each.inputs, clauses=[clause]).failures, clause


def test_there_are_many_and_most_have_an_oracle() -> None:
    assert len(CORRECT) >= 35
    assert sum(each.oracle is not None for each in CORRECT) >= 25
