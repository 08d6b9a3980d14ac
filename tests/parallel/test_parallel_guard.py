"""What follows from figures that are not finite; nothing moves in a step that is skipped."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from orchestrator.parallel.guard import (
    BufferKeeper,
    Guard,
    bad_flag,
    guarded_step,
    step_on_device,
)
from orchestrator.plan.training import NonFinite

pytestmark = pytest.mark.unit

NAN, INF = math.nan, math.inf
Step = Callable[[torch.optim.Optimizer, Tensor], None]


def _optimizer(model: nn.Module, kind: str) -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1, fused=True)
    momentum = 0.9 if kind == "momentum" else 0.0
    return torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=momentum, weight_decay=0.1, fused=True
    )


def _trained(kind: str, step: Step, bad_at: set[int], steps: int) -> list[Tensor]:
    """Parameters and optimizer state after steps of which some are bad, with NaN gradients."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = _optimizer(model, kind)
    for number in range(steps):
        torch.manual_seed(number)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
            if number in bad_at:
                parameter.grad[0] = NAN
        step(optimizer, torch.tensor(float(number in bad_at)))
    state = [v for p in model.parameters() for v in optimizer.state[p].values()]
    return [*(p.detach() for p in model.parameters()), *(v for v in state if v is not None)]


@pytest.mark.parametrize("kind", ["adamw", "sgd", "momentum"])
@pytest.mark.parametrize("step", [guarded_step, step_on_device])
@pytest.mark.parametrize("bad_at", [{0}, {2}, {0, 1, 4}, {5}])
def test_a_skipped_step_moves_nothing_bit_by_bit(kind: str, step: Step, bad_at: set[int]) -> None:
    """The same as a run that never saw those gradients, step counts included, on both paths."""
    found = _trained(kind, step, bad_at, 6)

    def without(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
        if not bool(bad):
            optimizer.step()

    expected = _trained(kind, without, bad_at, 6)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
        assert bool(torch.isfinite(one).all())


@pytest.mark.parametrize(
    ("loss", "norm", "flag"), [(1.0, 2.0, 0), (NAN, 2.0, 1), (1.0, INF, 1), (-INF, NAN, 1)]
)
def test_a_loss_or_a_norm_is_enough(loss: float, norm: float, flag: int) -> None:
    found = bad_flag(torch.tensor(loss, dtype=torch.float64), torch.tensor(norm))
    assert found.shape == ()
    assert found.dtype == torch.float32
    assert found.item() == flag


def test_buffers_are_what_they_were_before_a_skipped_step() -> None:
    norm = nn.BatchNorm1d(2)
    keeper = BufferKeeper(dict(norm.named_buffers()))
    good, bad = torch.tensor(0.0), torch.tensor(1.0)
    keeper.keep()
    norm(torch.randn(4, 2))
    keeper.bring_back(good)
    assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]
    before = [buffer.clone() for buffer in norm.buffers()]
    keeper.keep()
    norm(torch.full((4, 2), NAN))
    assert torch.isnan(norm.running_mean).all()  # type: ignore[arg-type]
    keeper.bring_back(bad)
    assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]
    for buffer, expected in zip(norm.buffers(), before, strict=True):
        assert torch.equal(buffer, expected)


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 4), st.integers(1, 3))
def test_the_limit_counts_steps_in_a_row(finite: list[bool], limit: int, rollbacks: int) -> None:
    rule = NonFinite(max_skips=limit, then="rollback", max_rollbacks=rollbacks)
    guard, row, used = Guard(rule), 0, 0
    for step, good in enumerate(finite, start=1):
        verdict = guard.saw(step, 1.0 if good else NAN, 1.0, not good)
        row = 0 if good else row + 1
        if good:
            assert verdict == "fine"
            assert guard.streak == []
        elif row <= limit:
            assert verdict == "skipped"
        elif used < rollbacks:
            assert verdict == "rollback"
            assert [bad.step for bad in guard.streak] == list(range(step - row + 1, step + 1))
            guard.rolled_back()
            row, used = 0, used + 1
        else:
            assert verdict == "stop"
            return
    assert guard.num_rollbacks == used
    assert guard.num_skipped == finite.count(False)


def test_the_plan_may_say_stop_at_once() -> None:
    guard = Guard(NonFinite(max_skips=0))
    assert guard.saw(3, 1.5, INF, True) == "stop"
    text = str(guard.error(None))
    assert "step 3 (loss 1.5, gradient norm inf)" in text
    assert "more than training.non_finite.max_skips=0 in a row" in text
    assert "no checkpoint yet" in text
    assert "training.optimizer.lr" in text
    assert "then=rollback" in text
    assert guard.error(2).exit_code == 1


def test_spent_rollbacks_are_said() -> None:
    guard = Guard(NonFinite(max_skips=0, then="rollback", max_rollbacks=1), num_rollbacks=1)
    assert guard.saw(9, NAN, NAN, True) == "stop"
    assert "1 of max_rollbacks=1 used" in str(guard.error(8))
    assert "step 8 is kept" in str(guard.error(8))
