"""Factors from runs: medians, with odd runs named and left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.calibration.refit import Pair, corrected, mean_error, plain, refit
from orchestrator.planner.cost.device import Refit
from orchestrator.planner.forecast.parts import Parts
from tests.planner.forecast.plans import device_of_two_cores

pytestmark = pytest.mark.unit

PREDICTED = Parts(1.0, 0.1, 0.0, 0.0, 0.0, {"dp": 0.1})


def pair(name: str, computing: float, talking: float, apart: bool = True) -> Pair:
    return Pair(name, PREDICTED, Parts(computing, 0.1 * talking, 0.0, 0.0, 0.0, apart=apart))


@given(st.floats(0.45, 2.4), st.floats(0.3, 4.0))
def test_runs_that_agree_leave_no_error(computing, talking):
    found = refit([pair("a", computing, talking), pair("b", computing, talking)])
    assert found.refit.computation == pytest.approx(computing, rel=1e-3)
    assert found.refit.communication == pytest.approx(talking, rel=1e-3)
    assert mean_error(found.used, found.refit) < 2e-3
    assert mean_error(found.used, found.refit) <= mean_error(found.used, Refit()) + 2e-3


def test_one_odd_run_moves_little():
    found = refit([pair("a", 1.2, 1.0), pair("b", 1.2, 1.0), pair("odd", 2.4, 9.0)])
    assert (found.refit.computation, found.refit.communication) == (1.2, 1.0)
    assert found.refit.num_runs == 3


def test_what_cannot_be_used_is_named():
    found = refit(
        [pair("a", 1.1, 1.0), pair("slept", 9.0, 1.0), pair("gpu", 1.1, 1.0, apart=False)]
    )
    assert [name for name, _ in found.left_out] == ["slept", "gpu"]
    assert found.refit.num_runs == 1
    with pytest.raises(ValueError, match="no run"):
        refit([])


def test_one_worker_says_nothing_of_links():
    alone = Pair("one", Parts(1.0, 0.0, 0.0, 0.0, 0.0), Parts(1.1, 0.0, 0.0, 0.0, 0.0))
    assert refit([alone]).refit == Refit(computation=1.1, communication=1.0, num_runs=1)


def test_a_plain_device_has_no_factors():
    device = device_of_two_cores()
    changed = device.model_copy(update={"refit": Refit(computation=2.0)})
    assert plain(changed) == device
    assert corrected(pair("a", 1.0, 1.0), Refit(computation=2.0)).compute == 2.0
