"""What does each phase need done?

From a state alone to the actions that its phase asks for: when it is entered, and again for a
carrier that lost its memory. Knows no event.
"""

from __future__ import annotations

from orchestrator.coordinator.actions import (
    Action,
    BuildStore,
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
)
from orchestrator.coordinator.holding import clear
from orchestrator.coordinator.oom import micro_batch_of
from orchestrator.coordinator.policy import RunPolicy
from orchestrator.coordinator.state import Outcome, RunState

BACKOFF_SECONDS = 1.0
"""At most so long is waited before the second try to place a gang; twice that before the next."""

MAX_BACKOFF_SECONDS = 30.0


def due(state: RunState) -> tuple[Action, ...]:
    """What the present phase needs done, again: for a carrier that lost its memory.

    Carrying an action out twice must do no more than once. In ``training`` no start is due
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
        return leaving(state, policy) if state.started else (_start(state),)
    if state.phase == "stopping":
        return (StopTraining(attempt=state.attempt, timeout_seconds=stop_seconds(state, policy)),)
    if state.phase == "deploying":
        return (_deployment(state, policy),)
    if state.phase == "serving":
        return (_example(state, policy),) if state.example_pending else ()
    if state.phase == "ending":
        return (*clear(state)[1], ConfirmTornDown(attempt=state.attempt))
    return (_end(state),) if state.phase == "ended" else ()


def wanted(state: RunState) -> tuple[int, ...]:
    """The worker counts to reserve for, largest first; ``()``: training is done."""
    if state.policy is None or state.trained:
        return ()
    workers, most = state.policy.workers, state.most_workers
    if most is None:
        return workers
    return tuple(count for count in workers if count <= most) or workers[-1:]


def backoff_seconds(tried: int) -> float:
    """At most so long is waited before a try after ``tried`` others: 1 s, 2 s, … 30 s."""
    if tried == 0:
        return 0.0
    return min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(tried - 1, 10))


def leaving(state: RunState, policy: RunPolicy) -> tuple[Action, ...]:
    """What tells stepping workers that they are to leave with their next checkpoint."""
    if state.resize is None or state.resize.kind != "grow":
        return ()
    seconds = policy.stop_timeout_seconds
    return (StopTraining(attempt=state.attempt, timeout_seconds=seconds, at_checkpoint=True),)


def stop_seconds(state: RunState, policy: RunPolicy) -> float:
    """How long workers may take to leave: less where their node goes before that."""
    return state.drain.timeout_seconds if state.drain else policy.stop_timeout_seconds


def _reservation(state: RunState, policy: RunPolicy) -> ReserveGang:
    return ReserveGang(
        attempt=state.attempt,
        workers=wanted(state),
        strategy=policy.strategy,
        timeout_seconds=policy.gang_timeout_seconds,
        excluded=tuple(sorted({*state.excluded, *state.suspects})),
        tried=state.gang_tried,
        backoff_seconds=backoff_seconds(state.gang_tried),
    )


def _start(state: RunState) -> StartTraining:
    return StartTraining(
        attempt=state.attempt,
        workers=state.workers,
        resume=state.newest.folder if state.newest else None,
        first_step=state.committed_step,
        micro_batch=micro_batch_of(state),
    )


def _deployment(state: RunState, policy: RunPolicy) -> Deploy:
    promoted = state.promoted
    return Deploy(
        attempt=state.attempt,
        folder=promoted.folder if promoted else "",
        step=promoted.step if promoted else 0,
        replicas=policy.replicas,
        timeout_seconds=policy.serve_timeout_seconds,
        hand_over=policy.hand_over,
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
