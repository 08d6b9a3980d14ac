"""How does a trained run come to serve, and what ends that?

The promoted checkpoint is deployed, tried with the plan's example, and kept or taken down. The
gang is given back before, or when the replicas ask for its places (``RunPolicy.hand_over``); where
somebody else was quicker, it is reserved again.
"""

from __future__ import annotations

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.answers import Declined, Move, unexpected
from orchestrator.coordinator.dues import entry
from orchestrator.coordinator.ending import end
from orchestrator.coordinator.holding import (
    GRACE_SECONDS,
    policy_in,
    release,
    released,
    waiting,
)
from orchestrator.coordinator.placing import reserve, restart
from orchestrator.coordinator.promotion import judge
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import RunState


def promote(state: RunState) -> Move:
    """All steps are committed: choose what to serve, or end."""
    policy = policy_in(state)
    if policy.promotion is None:
        return end(state, 0, f"trained {state.committed_step} steps; the plan serves nothing")
    verdict = judge(state.committed, policy.promotion, state.num_evaluated)
    judged = replace(state, promotion_reason=verdict.reason, resize=None, drain=None)
    if verdict.promoted is None:
        return end(judged, 7 if state.committed else 1, verdict.reason)
    chosen = replace(judged, promoted=verdict.promoted)
    if state.gang != "held" and not policy.release_before_deploy:
        return reserve(chosen)
    return deploy(chosen)


def deploy(state: RunState) -> Move:
    """Bring up the promoted checkpoint."""
    policy = policy_in(state)
    given_back = release(state) if policy.release_before_deploy else ()
    before = released(state) if given_back else state
    wait = waiting(state, "the app to be ready", policy.serve_timeout_seconds + GRACE_SECONDS)
    after = replace(before, phase="deploying", busy="none", app="up", url=None, wait=wait)
    return after, (*given_back, *entry(after))


def serve(state: RunState, url: str) -> Move:
    """The app is up: try it with the plan's example, if there is one."""
    policy = policy_in(state)
    up = replace(state, phase="serving", url=url, wait=None)
    if not policy.has_example:
        return settle(up)
    wait = waiting(
        state, "the example to be answered", policy.serve_timeout_seconds + GRACE_SECONDS
    )
    after = replace(up, example_pending=True, wait=wait)
    return after, entry(after)


def settle(state: RunState) -> Move:
    """The app has done what it was brought up for, or goes on serving."""
    policy = policy_in(state)
    tried = replace(state, example_pending=False, wait=None)
    step = state.promoted.step if state.promoted else state.committed_step
    if policy.keep_serving == "attached":
        return tried, ()
    if policy.keep_serving == "detached":
        return end(
            replace(tried, app="left"), 0, f"trained; step {step} is being served at {state.url}"
        )
    return end(tried, 0, f"trained, served step {step} at {state.url} and took it down again")


def on_deployed(state: RunState, event: ev.Deployed) -> Move | Declined:
    """The app is up. What was handed over to its replicas is not ours any more."""
    if state.phase != "deploying":
        return unexpected(state, event)
    if not policy_in(state).hand_over:
        return serve(state, event.url)
    given_back = release(state)
    after, further = serve(released(state), event.url)
    return after, (*given_back, *further)


def on_deploy_failed(state: RunState, event: ev.DeployFailed) -> Move | Declined:
    """The app did not come up: end, with the trained checkpoints kept. Where others took the
    places of its replicas, reserve those again and go on from there, but not for ever."""
    if state.phase != "deploying":
        return unexpected(state, event)
    tries = policy_in(state).gang_attempts + 1
    if event.crowded_out and state.num_crowded_out + 1 < tries:
        counted_out = replace(state, num_crowded_out=state.num_crowded_out + 1)
        # The last checkpoint may have turned out to be damaged: then there are steps to take again.
        return reserve(counted_out) if state.trained else restart(counted_out)
    counted = f" (crowded out {tries} times)" if event.crowded_out else ""
    message = f"the app did not come up: {event.message}{counted}"
    return end(state, 1, message, event.user_traceback)


def on_example_answered(state: RunState, event: ev.ExampleAnswered) -> Move | Declined:
    """The app works."""
    if state.phase != "serving" or not state.example_pending:
        return unexpected(state, event)
    return settle(state)


def on_example_failed(state: RunState, event: ev.ExampleFailed) -> Move | Declined:
    """The app is up but does not answer: that is a failure of the run."""
    if state.phase != "serving" or not state.example_pending:
        return unexpected(state, event)
    return end(state, 1, f"the app did not answer the plan's example: {event.message}")
