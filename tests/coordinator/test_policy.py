"""What of a plan a run's policy holds, of placement, memory, growth and money."""

from __future__ import annotations

import pytest

from orchestrator.coordinator.policy import PREEMPTION_GRACE_SECONDS, policy_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers, micro_batches

pytestmark = pytest.mark.unit

PLAN = Plan.model_validate(
    {
        "name": "digits",
        "job": "jobs.digits:Digits",
        "data": {"source": {"kind": "text", "path": "x"}},
        "training": {"workers": [1, 4], "steps": 50, "global_batch": 32},
        "coordination": {
            "priority": 3,
            "gang": {"attempts": 4},
            "suspect_after": "3s",
            "regrow_after": "2m",
            "price_per_hour": 2.5,
            "budget": {"hours": 8, "cost": 100},
        },
    }
)


def test_the_policy_holds_what_the_plan_says_of_coordination() -> None:
    policy = policy_of(PLAN, workers=legal_workers(PLAN))
    assert (policy.priority, policy.gang_attempts) == (3, 4)
    assert (policy.suspect_after_seconds, policy.regrow_after_seconds) == (3.0, 120.0)
    assert (policy.price_per_hour, policy.budget_hours, policy.budget_cost) == (2.5, 8.0, 100.0)
    assert policy.preemption_grace_seconds == PREEMPTION_GRACE_SECONDS


def test_it_knows_the_legal_micro_batches_of_each_worker_count() -> None:
    policy = policy_of(PLAN, workers=legal_workers(PLAN))
    assert set(policy.micro_batches) == set(policy.workers) == {1, 2, 4}
    for count, sizes in policy.micro_batches.items():
        assert sizes == micro_batches(PLAN, count)
        assert sizes[-1] == 1
        assert list(sizes) == sorted(sizes, reverse=True)


def test_a_gang_is_handed_over_or_released_before_not_both() -> None:
    workers = legal_workers(PLAN)
    early = policy_of(PLAN, workers=workers, release_before_deploy=True)
    assert (early.release_before_deploy, early.hand_over) == (True, False)
    both = policy_of(PLAN, workers=workers, release_before_deploy=True, hand_over=True)
    assert (both.release_before_deploy, both.hand_over) == (False, True)
