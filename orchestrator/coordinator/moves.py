"""How does a run get from its gang to steps?

A move takes a state to a state and names the actions that go with it. These know the order of
phases up to training; they do not know which event calls for them (``reactions``).
"""

from __future__ import annotations

from orchestrator.coordinator.answers import Move
from orchestrator.coordinator.dues import entry
from orchestrator.coordinator.holding import GRACE_SECONDS, policy_in, waiting
from orchestrator.coordinator.past import repaired
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.serving import promote
from orchestrator.coordinator.state import RunState


def use_gang(state: RunState) -> Move:
    """The gang is held: go on with the first thing that is still to do."""
    if state.trained:
        return promote(state)
    return train(state) if state.store_ready else build(state)


def build(state: RunState) -> Move:
    """Build the sample store."""
    wait = waiting(state, "progress of sharding", policy_in(state).progress_timeout_seconds)
    after = replace(state, phase="sharding", busy="data", wait=wait)
    return after, entry(after)


def train(state: RunState) -> Move:
    """Start a worker group from the newest committed checkpoint."""
    wait = waiting(state, "the workers' first step", policy_in(state).start_timeout_seconds)
    after = replace(
        state,
        phase="training",
        busy="workers",
        started=False,
        step=state.committed_step,
        wait=wait,
    )
    return after, entry(after)


def stepping(state: RunState) -> RunState:
    """The worker group has given a sign of life: the wait for the next one begins.

    Workers tell by themselves which of them hangs, so this is for groups that are silent
    altogether: between two signs of life may lie a step, an evaluation and a checkpoint.
    """
    policy = policy_in(state)
    hang_seconds = 3 * policy.hang_timeout_seconds + GRACE_SECONDS
    timeout_seconds = max(policy.progress_timeout_seconds, hang_seconds)
    wait = waiting(state, "progress of training", timeout_seconds)
    resize = None if state.resize and state.resize.left else state.resize
    return replace(repaired(state), started=True, recovering=None, resize=resize, wait=wait)
