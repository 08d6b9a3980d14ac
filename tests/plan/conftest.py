"""A plan to start from, and the ways of loading it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from orchestrator.errors import PlanError, Problem
from orchestrator.plan import Plan, parse_plan

# A loaded machine is no failure of the code under test.
settings.register_profile("axis", deadline=None)
settings.load_profile("axis")

FULL = """\
version: 1
name: gpt-stdlib
job: jobs.gpt:GPT
storage: runs

data:
  source: {kind: text, path: "python:stdlib", glob: "**/*.py"}
  shards: 8
training:
  workers: [2, 4]
  resources: {cpu: 1}
  global_batch: 32
  steps: 200
  optimizer: {kind: adamw, lr: 3e-4}
model: {replicate: 1, shard: -1, tensor: 1, pipeline: 1}
inference:
  replicas: [1, 2]
  slo: {p99: 50ms}
  promote: {when: {metric: val_loss, below: 6.0}}
coordination:
  gang: {timeout: 2m}
  checkpoint: {every: auto, keep: 3}
  restarts: {preemption: -1, node: 10, worker: 5, oom: 1, hang: 2, user: 0}
"""

MakePlan = Callable[..., Plan]
FindProblems = Callable[..., dict[str, Problem]]


@pytest.fixture
def full_text() -> str:
    """A plan with every axis, as a user would write it."""
    return FULL


@pytest.fixture
def make_plan() -> MakePlan:
    """The full plan with overrides."""

    def make(*overrides: str) -> Plan:
        return parse_plan(FULL, overrides, "plan.yaml").plan

    return make


@pytest.fixture
def find_problems() -> FindProblems:
    """The problems of a text with overrides, by where they are; at least one is expected."""

    def find(*overrides: str, text: str = FULL) -> dict[str, Problem]:
        with pytest.raises(PlanError) as caught:
            parse_plan(text, overrides, "plan.yaml")
        found = {problem.where: problem for problem in caught.value.problems}
        assert len(found) == len(caught.value.problems), caught.value.problems
        return found

    return find
