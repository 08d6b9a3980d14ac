"""What follows from each kind of event, in each phase?

One function per kind. It either makes a move or says ``Declined`` with the reason; it never
raises. Those of opening, placing and training are here, the others beside what they decide
about. Fences, bookkeeping and the choice of the function are in ``decide``.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.actions import DeleteCheckpoints
from orchestrator.coordinator.answers import Declined, Move, Reaction, unexpected
from orchestrator.coordinator.committing import (
    on_checkpoint_committed,
    on_checkpoint_damaged,
    on_checkpoints_deleted,
)
from orchestrator.coordinator.departures import on_drain_noticed, on_node_cleared, on_node_suspected
from orchestrator.coordinator.ending import end, end_stopped, finish
from orchestrator.coordinator.holding import clear, policy_in, waiting
from orchestrator.coordinator.losses import lose, on_training_failed, preempt
from orchestrator.coordinator.moves import stepping, train, use_gang
from orchestrator.coordinator.past import failed
from orchestrator.coordinator.placing import misfit, on_gang_timed_out, on_queued, reserve
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.resize import on_resize_wanted, on_yield_over, resized
from orchestrator.coordinator.serving import (
    on_deploy_failed,
    on_deployed,
    on_example_answered,
    on_example_failed,
    promote,
)
from orchestrator.coordinator.state import RunState
from orchestrator.coordinator.stops import on_budget_spent, on_expired, on_stop_requested


def on_opened(state: RunState, event: ev.Opened) -> Move | Declined:
    """A new attempt: give back what the last one left, then go on from the newest checkpoint."""
    if state.name not in ("", event.name):
        return Declined("refused", f"this is the run {state.name}, not {event.name}")
    cleared, actions = clear(state) if state.policy else (state, ())
    # A driver that died with workers at work took their steps with it.
    lost = state.stepping and state.stop is None
    past = failed(cleared) if lost else replace(cleared, lost_at_seconds=None)
    opened = replace(_afresh(past, event), step=state.committed_step)
    after, further = promote(opened) if opened.trained else reserve(opened)
    deletions = (DeleteCheckpoints(folders=state.doomed),) if state.doomed else ()
    return after, (*actions, *deletions, *further)


def _afresh(state: RunState, event: ev.Opened) -> RunState:
    """What a new driver begins with. Of memory it knows what the last one has learnt, unless the
    plan is another."""
    same_plan = event.plan_hash != "" and event.plan_hash == state.plan_hash
    return replace(
        state,
        name=event.name,
        attempt=event.attempt,
        policy=event.policy,
        plan_hash=event.plan_hash,
        store_ready=False,
        started=False,
        excluded=(),
        suspects=(),
        most_workers=None,
        resize=None,
        drain=None,
        micro_batch=state.micro_batch if same_plan else None,
        restarts_used={},
        recovering=None,
        num_crowded_out=0,
        example_pending=False,
        stop=None,
        outcome=None,
        opened_at_seconds=event.at_seconds,
    )


def on_gang_placed(state: RunState, event: ev.GangPlaced) -> Move | Declined:
    """The gang is held: go on with whatever is to do."""
    if state.phase != "reserving":
        return unexpected(state, event)
    fault = misfit(state, event)
    if fault:
        return Declined("refused", fault)
    if not set(event.nodes).isdisjoint(state.excluded):  # they were lost while it was placed
        return reserve(state, state.gang_tried)
    held = replace(
        state,
        gang="held",
        gang_tried=0,
        queue=None,
        workers=event.workers,
        last_workers=event.workers or state.last_workers,
        nodes=event.nodes,
        placement=event.note,
    )
    return use_gang(held)


def on_store_ready(state: RunState, event: ev.StoreReady) -> Move | Declined:
    """Train on the store, unless the run began on other content."""
    if state.phase != "sharding":
        return unexpected(state, event)
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
    return unexpected(state, event)


def on_training_started(state: RunState, event: ev.TrainingStarted) -> Move | Declined:
    """The group is at work: the loss it may have been repairing is repaired."""
    if state.phase != "training":
        return unexpected(state, event)
    if state.started:
        return Declined("ignored", f"attempt {state.attempt} has started already")
    return stepping(replace(state, step=max(state.step, event.step))), ()


def on_training_ended(state: RunState, event: ev.TrainingEnded) -> Move | Declined:
    """Promote when all steps are committed; end, or go on elsewhere, when they were asked to
    leave; else it is a loss."""
    if state.phase not in ("training", "stopping"):
        return unexpected(state, event)
    left = replace(state, step=max(state.step, event.step))
    gone = replace(left, busy="none")
    if state.phase == "stopping" and state.stop:
        return end_stopped(gone, state.stop)
    if left.trained:
        return promote(gone)
    committed = f"step {state.committed_step} of {state.steps} is the newest committed"
    if state.drain:
        saved = left.step <= state.committed_step
        return preempt(
            gone, state.drain, "" if saved else f"they left after {left.step}: {committed}"
        )
    if state.resize and event.stopped:
        return resized(gone, state.resize)
    how = "were stopped" if event.stopped else "left their loop"
    return lose(left, "worker", f"the workers {how} after step {event.step}, but {committed}")


def on_noted(state: RunState, event: ev.BaseEvent) -> Move | Declined:
    """Worth remembering in the journal while the run is under way; nothing follows from it."""
    if state.phase in ("new", "ending", "ended"):
        return unexpected(state, event)
    return state, ()


def on_failed(state: RunState, event: ev.Failed) -> Move | Declined:
    """Nothing that a restart would mend: end with the exit code given."""
    if state.phase in ("new", "ending", "ended"):
        return unexpected(state, event)
    return end(state, event.exit_code, event.message, event.user_traceback)


def on_torn_down(state: RunState, event: ev.TornDown) -> Move | Declined:
    """Everything is given back: the run is over."""
    if state.phase != "ending":
        return unexpected(state, event)
    return finish(state)


REACTIONS: Mapping[type[ev.BaseEvent], Reaction] = {
    ev.Opened: on_opened,
    ev.GangPlaced: on_gang_placed,
    ev.GangTimedOut: on_gang_timed_out,
    ev.Queued: on_queued,
    ev.ResizeWanted: on_resize_wanted,
    ev.YieldOver: on_yield_over,
    ev.DrainNoticed: on_drain_noticed,
    ev.NodeSuspected: on_node_suspected,
    ev.NodeCleared: on_node_cleared,
    ev.Misplaced: on_noted,
    ev.StoreReady: on_store_ready,
    ev.Progressed: on_progressed,
    ev.Straggler: on_noted,
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
    ev.BudgetSpent: on_budget_spent,
    ev.Expired: on_expired,
    ev.Failed: on_failed,
    ev.TornDown: on_torn_down,
}
