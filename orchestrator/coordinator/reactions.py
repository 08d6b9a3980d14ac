"""What follows from each kind of event, in each phase?

One function per kind. It either makes a move or says ``Declined`` with the reason; it never
raises. Fences, bookkeeping and the choice of the function are in ``decide``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.actions import DeleteCheckpoints
from orchestrator.coordinator.moves import (
    Move,
    clear,
    end,
    end_stopped,
    entry,
    finish,
    lose,
    policy_in,
    promote,
    reserve,
    restart,
    serve,
    settle,
    stepping,
    train,
    use_gang,
    waiting,
    wind_down,
)
from orchestrator.coordinator.past import failed
from orchestrator.coordinator.retention import LOSS_METRIC, superseded
from orchestrator.coordinator.state import CheckpointRecord, Outcome, RunState, Stop


@dataclass(frozen=True)
class Declined:
    """The event changes nothing. ``ignored``: it is late or told twice, which is normal.
    ``refused``: it contradicts what is known, and its sender must be told."""

    verdict: Literal["ignored", "refused"]
    reason: str


Reaction = Callable[[RunState, Any], Move | Declined]


def _unexpected(state: RunState, event: ev.BaseEvent) -> Declined:
    return Declined("ignored", f"{type(event).__name__} means nothing while {state.phase}")


def on_opened(state: RunState, event: ev.Opened) -> Move | Declined:
    """A new attempt: give back what the last one left, then go on from the newest checkpoint."""
    if state.name not in ("", event.name):
        return Declined("refused", f"this is the run {state.name}, not {event.name}")
    cleared, actions = clear(state) if state.policy else (state, ())
    # A driver that died with workers at work took their steps with it.
    lost = state.started and state.phase == "training"
    past = failed(cleared) if lost else replace(cleared, lost_at_seconds=None)
    opened = replace(
        past,
        name=event.name,
        attempt=event.attempt,
        policy=event.policy,
        plan_hash=event.plan_hash,
        store_ready=False,
        started=False,
        step=state.committed_step,
        restarts_used={},
        recovering=None,
        example_pending=False,
        stop=None,
        outcome=None,
        opened_at_seconds=event.at_seconds,
    )
    after, further = promote(opened) if opened.trained else reserve(opened)
    deletions = (DeleteCheckpoints(folders=state.doomed),) if state.doomed else ()
    return after, (*actions, *deletions, *further)


def on_gang_placed(state: RunState, event: ev.GangPlaced) -> Move | Declined:
    """The gang is held: go on with whatever is to do."""
    if state.phase != "reserving":
        return _unexpected(state, event)
    allowed = (0,) if state.trained else policy_in(state).workers
    if event.workers not in allowed:
        asked = " or ".join(str(count) for count in allowed)
        return Declined("refused", f"a gang of {event.workers} workers; asked for {asked}")
    held = replace(state, gang="held", workers=event.workers, placement=event.note)
    return use_gang(replace(held, last_workers=event.workers or state.last_workers))


def on_gang_timed_out(state: RunState, event: ev.GangTimedOut) -> Move | Declined:
    """Not placed in time: release everything and end with exit code 4."""
    if state.phase != "reserving":
        return _unexpected(state, event)
    return end(state, 4, event.message)


def on_store_ready(state: RunState, event: ev.StoreReady) -> Move | Declined:
    """Train on the store, unless the run began on other content."""
    if state.phase != "sharding":
        return _unexpected(state, event)
    known, store = state.store, event.store
    ready = replace(state, store=store, store_ready=True, busy="none")
    if known and state.committed and known.content_hash != store.content_hash:
        return end(
            replace(ready, store=known),
            2,
            f"the source is no longer what the run began with: {known.num_samples} samples "
            f"(content {known.content_hash[:12]}) then, {store.num_samples} samples (content "
            f"{store.content_hash[:12]}) now; going on from step {state.committed_step} would "
            "repeat or drop samples. --fresh starts anew, or restore the source",
        )
    if store.num_samples < 1:
        return end(ready, 1, "the source yields no sample: there is nothing to train on")
    return train(ready)


def on_progressed(state: RunState, event: ev.Progressed) -> Move | Declined:
    """A sign of life renews the wait."""
    if state.phase == "sharding":
        seconds = policy_in(state).progress_timeout_seconds
        return replace(state, wait=waiting(state, "progress of sharding", seconds)), ()
    if state.phase == "training":
        return stepping(replace(state, step=max(state.step, event.done))), ()
    return _unexpected(state, event)


def on_training_started(state: RunState, event: ev.TrainingStarted) -> Move | Declined:
    """The group is at work: the loss it may have been repairing is repaired."""
    if state.phase != "training":
        return _unexpected(state, event)
    if state.started:
        return Declined("ignored", f"attempt {state.attempt} has started already")
    return stepping(replace(state, step=max(state.step, event.step))), ()


def on_checkpoint_committed(state: RunState, event: ev.CheckpointCommitted) -> Move | Declined:
    """Commit it if it goes forward, and let go of what it supersedes."""
    record = event.checkpoint
    known = next((each for each in state.committed if each.folder == record.folder), None)
    if known is not None and known.step == record.step:
        return Declined("ignored", f"{record.folder} is committed already")
    if state.phase not in ("training", "stopping"):
        return Declined("refused", f"nothing is committed while {state.phase}")
    fault = _commit_fault(state, record)
    if fault:
        return Declined("refused", fault)
    has_metric = _promotion_metric(state) in record.metrics
    grown = replace(
        state,
        committed=(*state.committed, record),
        num_evaluated=state.num_evaluated + has_metric,
        step=max(state.step, record.step),
    )
    kept, folders = _let_go(grown)
    after = stepping(kept) if state.phase == "training" else kept
    return after, (DeleteCheckpoints(folders=folders),) if folders else ()


def _commit_fault(state: RunState, record: CheckpointRecord) -> str:
    if record.attempt != state.attempt:
        return f"the checkpoint is of attempt {record.attempt}, the run in {state.attempt}"
    if record.step <= state.committed_step:
        return f"step {record.step} is not past the committed step {state.committed_step}"
    if record.folder in (*state.damaged, *state.doomed):
        return f"{record.folder} was given up before"
    if record.step > state.steps:
        return f"step {record.step} is past the plan's last, {state.steps}"
    return ""


def _promotion_metric(state: RunState) -> str | None:
    promotion = policy_in(state).promotion
    return promotion.metric if promotion else None


def _let_go(state: RunState) -> tuple[RunState, tuple[str, ...]]:
    policy = policy_in(state)
    protected = {state.promoted.folder} if state.promoted and state.app != "none" else set()
    folders = superseded(
        state.committed,
        policy.keep,
        _promotion_metric(state) or LOSS_METRIC,
        policy.promotion.mode if policy.promotion else "min",
        frozenset(protected),
        policy.keep_best,
    )
    left = tuple(record for record in state.committed if record.folder not in folders)
    return replace(state, committed=left, doomed=(*state.doomed, *folders)), folders


def on_checkpoint_damaged(state: RunState, event: ev.CheckpointDamaged) -> Move | Declined:
    """Never use it again; where it was being used, take the one before."""
    if all(record.folder != event.folder for record in state.committed):
        return Declined("ignored", f"{event.folder} is not among the committed checkpoints")
    was_newest = state.committed[-1].folder == event.folder
    was_promoted = state.promoted is not None and state.promoted.folder == event.folder
    left = replace(
        state,
        committed=tuple(each for each in state.committed if each.folder != event.folder),
        damaged=(*state.damaged, event.folder),
        promoted=None if was_promoted else state.promoted,
    )
    if state.phase == "training" and not state.started and was_newest:
        return restart(left)
    if state.phase == "reserving" and state.trained and not left.trained:
        return reserve(left)  # replicas alone were to be placed, but there are steps to take again
    if state.phase == "deploying" and was_promoted:
        return promote(left)
    return left, ()


def on_checkpoints_deleted(state: RunState, event: ev.CheckpointsDeleted) -> Move | Declined:
    """Their deletion need not be asked for again."""
    doomed = tuple(folder for folder in state.doomed if folder not in event.folders)
    if doomed == state.doomed:
        return Declined("ignored", "none of these folders was to be deleted")
    return replace(state, doomed=doomed), ()


def on_training_ended(state: RunState, event: ev.TrainingEnded) -> Move | Declined:
    """Promote when all steps are committed, end when it was to stop, else it is a loss."""
    if state.phase not in ("training", "stopping"):
        return _unexpected(state, event)
    left = replace(state, step=max(state.step, event.step))
    if state.phase == "stopping" and state.stop:
        return end_stopped(replace(left, busy="none"), state.stop)
    if left.trained:
        return promote(replace(left, busy="none"))
    how = "were stopped" if event.stopped else "left their loop"
    committed = f"step {state.committed_step} of {state.steps} is the newest committed"
    return lose(left, "worker", f"the workers {how} after step {event.step}, but {committed}")


def on_training_failed(state: RunState, event: ev.TrainingFailed) -> Move | Declined:
    """Restart within the budget of its cause, or end."""
    if state.phase == "stopping" and state.stop:
        detail = f"without a last checkpoint, the workers were lost: {event.message}"
        return end_stopped(state, state.stop, detail)
    if state.phase != "training":
        return _unexpected(state, event)
    return lose(state, event.cause, event.message, event.user_traceback)


def on_deployed(state: RunState, event: ev.Deployed) -> Move | Declined:
    """The app is up."""
    if state.phase != "deploying":
        return _unexpected(state, event)
    return serve(state, event.url)


def on_deploy_failed(state: RunState, event: ev.DeployFailed) -> Move | Declined:
    """The app did not come up: end, with the trained checkpoints kept."""
    if state.phase != "deploying":
        return _unexpected(state, event)
    return end(state, 1, f"the app did not come up: {event.message}", event.user_traceback)


def on_example_answered(state: RunState, event: ev.ExampleAnswered) -> Move | Declined:
    """The app works."""
    if state.phase != "serving" or not state.example_pending:
        return _unexpected(state, event)
    return settle(state)


def on_example_failed(state: RunState, event: ev.ExampleFailed) -> Move | Declined:
    """The app is up but does not answer: that is a failure of the run."""
    if state.phase != "serving" or not state.example_pending:
        return _unexpected(state, event)
    return end(state, 1, f"the app did not answer the plan's example: {event.message}")


def on_stop_requested(state: RunState, event: ev.StopRequested) -> Move | Declined:
    """Stop in order: with a last checkpoint where workers are stepping."""
    stop = Stop(by=event.by, at_seconds=event.at_seconds)
    if state.phase == "stopping" and state.stop:
        if stop == state.stop or event.by != "ctrl-c":
            return Declined("ignored", f"the run is stopping already, by {state.stop.by}")
        return end_stopped(state, state.stop, "a second Ctrl-C: without a last checkpoint")
    if state.phase in ("new", "ending", "ended"):
        return Declined("ignored", f"there is nothing to stop while {state.phase}")
    if state.phase == "training" and state.started:
        return wind_down(state, stop)
    if state.phase == "serving" and not state.example_pending:
        step = state.promoted.step if state.promoted else state.committed_step
        served = f"trained, and served step {step} at {state.url} until it was stopped"
        return end(replace(state, stop=stop), 0, served)
    return end_stopped(state, stop)


def on_expired(state: RunState, event: ev.Expired) -> Move | Declined:
    """What was waited for did not come."""
    wait = state.wait
    if wait is None or (event.what, event.since) != (wait.what, wait.since):
        return Declined("ignored", f"{event.what!r} is no longer waited for")
    missing = f"waited {wait.timeout_seconds:g} s for {wait.what}, in vain"
    if state.phase == "training":
        return lose(state, "hang", missing)
    if state.phase == "stopping" and state.stop:
        return end_stopped(state, state.stop, missing)
    if state.phase == "ending":
        return _end_unconfirmed(state, missing)
    return end(state, 4 if state.phase == "reserving" else 1, missing)


def _end_unconfirmed(state: RunState, missing: str) -> Move:
    # What is held stays in the state, so that the next attempt gives it back first.
    known = state.outcome or Outcome(exit_code=1, message="ended")
    outcome = replace(known, message=f"{known.message} ({missing})")
    after = replace(state, phase="ended", wait=None, outcome=outcome)
    return after, entry(after)


def on_failed(state: RunState, event: ev.Failed) -> Move | Declined:
    """Nothing that a restart would mend: end with the exit code given."""
    if state.phase in ("new", "ending", "ended"):
        return _unexpected(state, event)
    return end(state, event.exit_code, event.message, event.user_traceback)


def on_torn_down(state: RunState, event: ev.TornDown) -> Move | Declined:
    """Everything is given back: the run is over."""
    if state.phase != "ending":
        return _unexpected(state, event)
    return finish(state)


REACTIONS: Mapping[type[ev.BaseEvent], Reaction] = {
    ev.Opened: on_opened,
    ev.GangPlaced: on_gang_placed,
    ev.GangTimedOut: on_gang_timed_out,
    ev.StoreReady: on_store_ready,
    ev.Progressed: on_progressed,
    ev.TrainingStarted: on_training_started,
    ev.CheckpointCommitted: on_checkpoint_committed,
    ev.CheckpointDamaged: on_checkpoint_damaged,
    ev.CheckpointsDeleted: on_checkpoints_deleted,
    ev.TrainingEnded: on_training_ended,
    ev.TrainingFailed: on_training_failed,
    ev.Deployed: on_deployed,
    ev.DeployFailed: on_deploy_failed,
    ev.ExampleAnswered: on_example_answered,
    ev.ExampleFailed: on_example_failed,
    ev.StopRequested: on_stop_requested,
    ev.Expired: on_expired,
    ev.Failed: on_failed,
    ev.TornDown: on_torn_down,
}
