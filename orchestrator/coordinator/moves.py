"""How does a run pass from one phase into the next?

A move takes a state to a state and names the actions that go with it. Moves know the order
of phases and what must be given back on the way; they do not know which event calls for
them (``reactions``).
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.coordinator.actions import (
    Action,
    BuildStore,
    CancelStore,
    ConfirmTornDown,
    DeleteCheckpoints,
    Deploy,
    End,
    KillTraining,
    ReleaseGang,
    ReserveGang,
    SendExample,
    StartTraining,
    StopTraining,
    TearDown,
)
from orchestrator.coordinator.past import failed, repaired
from orchestrator.coordinator.policy import Cause, RunPolicy
from orchestrator.coordinator.promotion import judge
from orchestrator.coordinator.state import Outcome, RunState, Stop, Wait

Move = tuple[RunState, tuple[Action, ...]]

GRACE_SECONDS = 10.0
"""How much longer a wait lasts than the deadline given to whoever carries the action out: they
know better what was missing, so their word should come first."""

STOP_EXIT_CODES = {"ctrl-c": 130, "request": 6, "sigterm": 6}


def policy_in(state: RunState) -> RunPolicy:
    """The policy of an opened run. Raises ``ValueError`` for one that was never opened."""
    if state.policy is None:
        raise ValueError("the run was never opened")
    return state.policy


def waiting(state: RunState, what: str, timeout_seconds: float) -> Wait:
    """A wait that begins with the event being handled."""
    return Wait(what=what, timeout_seconds=timeout_seconds, since=state.num_events)


def halt(state: RunState) -> tuple[Action, ...]:
    """Actions after which no data task and no worker is left."""
    if state.busy == "workers":
        return (KillTraining(attempt=state.attempt),)
    if state.busy == "data":
        return (CancelStore(timeout_seconds=policy_in(state).stop_timeout_seconds),)
    return ()


def release(state: RunState) -> tuple[Action, ...]:
    """Actions after which no bundle is reserved."""
    return () if state.gang == "none" else (ReleaseGang(),)


def take_down(state: RunState) -> tuple[Action, ...]:
    """Actions after which no app is up but one that was left on purpose."""
    if state.app != "up":
        return ()
    return (TearDown(timeout_seconds=policy_in(state).stop_timeout_seconds),)


def clear(state: RunState) -> Move:
    """Give back whatever is held, in the order in which nothing is orphaned."""
    actions = (*halt(state), *take_down(state), *release(state))
    app = "none" if state.app == "up" else state.app
    return replace(state, busy="none", gang="none", workers=0, app=app), actions


def reserve(state: RunState) -> Move:
    """Ask for the gang; what is still held from before is given back first."""
    policy = policy_in(state)
    before, cleared = clear(state)
    wait = waiting(
        state, "the gang to be placed whole", policy.gang_timeout_seconds + GRACE_SECONDS
    )
    after = replace(before, phase="reserving", gang="asked", wait=wait)
    return after, (*cleared, *entry(after))


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
    return replace(repaired(state), started=True, recovering=None, wait=wait)


def wind_down(state: RunState, stop: Stop) -> Move:
    """Ask the workers for a last checkpoint and to leave."""
    timeout_seconds = policy_in(state).stop_timeout_seconds + GRACE_SECONDS
    wait = waiting(state, "the workers' last checkpoint", timeout_seconds)
    after = replace(state, phase="stopping", stop=stop, wait=wait)
    return after, entry(after)


def lose(state: RunState, cause: Cause, message: str, user_traceback: str = "") -> Move:
    """The worker group is lost: restart it within the budget of the cause, or end."""
    if state.trained:  # nothing was lost with it
        stopped, actions = replace(state, busy="none"), halt(state)
        after, further = promote(stopped)
        return after, (*actions, *further)
    if cause != "user":
        state = failed(state)
    budget = policy_in(state).restarts.get(cause, 0)
    used = state.restarts_used.get(cause, 0)
    if budget >= 0 and used >= budget:
        return end(state, 1, _spent(state, cause, budget, message), user_traceback)
    return restart(
        replace(
            state,
            restarts_used={**state.restarts_used, cause: used + 1},
            num_restarts=state.num_restarts + 1,
            recovering=cause,
        )
    )


def restart(state: RunState) -> Move:
    """Open the next attempt within this driver and reserve the gang anew, whole."""
    before, cleared = clear(state)
    opened = replace(before, attempt=state.attempt + 1, started=False, step=before.committed_step)
    after, further = reserve(opened)
    return after, (*cleared, *further)


def _spent(state: RunState, cause: Cause, budget: int, message: str) -> str:
    if cause == "user" and budget == 0:
        return f"the Job's own code raised: {message}"
    resume = (
        f"the same command resumes from step {state.committed_step}"
        if state.committed
        else "no checkpoint was committed yet"
    )
    return (
        f"{message} (cause: {cause}; restarts used {state.restarts_used.get(cause, 0)} of "
        f"coordination.restarts.{cause}={budget}; {resume})"
    )


def promote(state: RunState) -> Move:
    """All steps are committed: choose what to serve, or end."""
    policy = policy_in(state)
    if policy.promotion is None:
        return end(state, 0, f"trained {state.committed_step} steps; the plan serves nothing")
    verdict = judge(state.committed, policy.promotion, state.num_evaluated)
    judged = replace(state, promotion_reason=verdict.reason)
    if verdict.promoted is None:
        return end(judged, 7 if state.committed else 1, verdict.reason)
    chosen = replace(judged, promoted=verdict.promoted)
    if state.gang != "held" and not policy.release_before_deploy:
        return reserve(chosen)
    return deploy(chosen)


def deploy(state: RunState) -> Move:
    """Bring up the promoted checkpoint."""
    policy = policy_in(state)
    released = release(state) if policy.release_before_deploy else ()
    before = replace(state, gang="none", workers=0) if released else state
    wait = waiting(state, "the app to be ready", policy.serve_timeout_seconds + GRACE_SECONDS)
    after = replace(before, phase="deploying", busy="none", app="up", url=None, wait=wait)
    return after, (*released, *entry(after))


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


def end_stopped(state: RunState, stop: Stop, detail: str = "") -> Move:
    """End because somebody asked for it, in the middle of things."""
    how = {"ctrl-c": "Ctrl-C", "request": "request", "sigterm": "SIGTERM"}[stop.by]
    done = f"{state.committed_step} of {state.steps} steps are committed"
    message = f"stopped by {how} while {state.phase}; {done}; the same command resumes"
    text = f"{message} ({detail})" if detail else message
    return end(replace(state, stop=stop), STOP_EXIT_CODES[stop.by], text)


def end(state: RunState, exit_code: int, message: str, user_traceback: str = "") -> Move:
    """Settle the outcome; give back everything, and end once that is confirmed."""
    outcome = Outcome(exit_code=exit_code, message=message, user_traceback=user_traceback)
    timeout_seconds = 2 * policy_in(state).stop_timeout_seconds + GRACE_SECONDS
    wait = waiting(state, "everything held to be given back", timeout_seconds)
    ending = replace(
        state, phase="ending", outcome=outcome, example_pending=False, recovering=None, wait=wait
    )
    if clear(ending)[1]:
        return ending, entry(ending)
    return finish(ending)


def finish(state: RunState) -> Move:
    """Nothing is held any more."""
    cleared, _ = clear(state)
    url = state.url if cleared.app == "left" else None
    after = replace(cleared, phase="ended", wait=None, url=url)
    return after, entry(after)


def due(state: RunState) -> tuple[Action, ...]:
    """What the present phase needs done, again: for a carrier that lost its memory.

    Carrying an action out twice must do no more than once. In ``training`` nothing is due
    once the first step is done; the group is there or its loss is reported.
    """
    deletions: tuple[Action, ...] = (
        (DeleteCheckpoints(folders=state.doomed),) if state.doomed else ()
    )
    if state.phase == "reserving":  # what preceded the request may not have been done
        preceding = (KillTraining(attempt=state.attempt - 1), ReleaseGang())
        return (*deletions, *preceding, *entry(state))
    return (*deletions, *entry(state))


def entry(state: RunState) -> tuple[Action, ...]:
    """What the present phase asks for when it is entered."""
    policy = state.policy
    if policy is None:
        return ()
    if state.phase == "reserving":
        return (_reservation(state, policy),)
    if state.phase == "sharding":
        return (BuildStore(attempt=state.attempt),)
    if state.phase == "training":
        return () if state.started else (_start(state),)
    if state.phase == "stopping":
        stop_seconds = policy.stop_timeout_seconds
        return (StopTraining(attempt=state.attempt, timeout_seconds=stop_seconds),)
    if state.phase == "deploying":
        return (_deployment(state, policy),)
    if state.phase == "serving":
        return (_example(state, policy),) if state.example_pending else ()
    if state.phase == "ending":
        return (*clear(state)[1], ConfirmTornDown(attempt=state.attempt))
    return (_end(state),) if state.phase == "ended" else ()


def _reservation(state: RunState, policy: RunPolicy) -> ReserveGang:
    return ReserveGang(
        attempt=state.attempt,
        workers=() if state.trained else policy.workers,
        strategy=policy.strategy,
        timeout_seconds=policy.gang_timeout_seconds,
    )


def _start(state: RunState) -> StartTraining:
    return StartTraining(
        attempt=state.attempt,
        workers=state.workers,
        resume=state.newest.folder if state.newest else None,
        first_step=state.committed_step,
    )


def _deployment(state: RunState, policy: RunPolicy) -> Deploy:
    promoted = state.promoted
    return Deploy(
        attempt=state.attempt,
        folder=promoted.folder if promoted else "",
        step=promoted.step if promoted else 0,
        replicas=policy.replicas,
        timeout_seconds=policy.serve_timeout_seconds,
    )


def _example(state: RunState, policy: RunPolicy) -> SendExample:
    return SendExample(
        attempt=state.attempt, url=state.url or "", timeout_seconds=policy.serve_timeout_seconds
    )


def _end(state: RunState) -> End:
    outcome = state.outcome or Outcome(exit_code=1, message="ended without an outcome")
    return End(
        exit_code=outcome.exit_code,
        message=outcome.message,
        user_traceback=outcome.user_traceback,
        app_left=state.app == "left",
    )
