"""What follows from what happens to checkpoints: they are committed, damaged, deleted.

The committed step never moves back, but where what was committed turned out to be damaged.
"""

from __future__ import annotations

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.actions import DeleteCheckpoints
from orchestrator.coordinator.answers import Declined, Move
from orchestrator.coordinator.holding import policy_in
from orchestrator.coordinator.moves import stepping
from orchestrator.coordinator.placing import restart
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.retention import LOSS_METRIC, superseded
from orchestrator.coordinator.serving import promote
from orchestrator.coordinator.state import CheckpointRecord, RunState


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
        # Replicas alone were to be placed, but there are steps to take again: by a group that no
        # late word of the last one can be taken for.
        return restart(left)
    if state.phase == "deploying" and was_promoted:
        return promote(left)
    return left, ()


def on_checkpoints_deleted(state: RunState, event: ev.CheckpointsDeleted) -> Move | Declined:
    """Their deletion need not be asked for again."""
    doomed = tuple(folder for folder in state.doomed if folder not in event.folders)
    if doomed == state.doomed:
        return Declined("ignored", "none of these folders was to be deleted")
    return replace(state, doomed=doomed), ()
