"""How does a run become larger or smaller while it trains?

It grows at a checkpoint that is due anyway, so that growing costs no work; it yields to a run of
higher priority at once, with a checkpoint of its own, and is never killed for that. Neither is a
loss: no budget pays for it.
"""

from __future__ import annotations

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.answers import Declined, Move, unexpected
from orchestrator.coordinator.dues import entry, wanted
from orchestrator.coordinator.holding import GRACE_SECONDS, policy_in, waiting
from orchestrator.coordinator.placing import restart
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import Resize, RunState


def on_resize_wanted(state: RunState, event: ev.ResizeWanted) -> Move | Declined:
    """Have the workers leave, if that leads to a legal number of them."""
    if state.trained:
        return Declined("ignored", "all steps are committed")
    if event.resize == "yield":
        return _on_yield(state, event)
    return _on_grow(state, event)


def _on_grow(state: RunState, event: ev.ResizeWanted) -> Move | Declined:
    if state.phase != "training" or not state.started:
        return unexpected(state, event)
    if state.resize:
        return Declined("ignored", f"the run is to {state.resize.kind} already")
    if not any(state.workers < count <= event.workers for count in wanted(state)):
        return Declined(
            "ignored",
            f"there is no legal number of workers from {state.workers + 1} to {event.workers}",
        )
    regrow_after = policy_in(state).regrow_after_seconds
    if event.since_placed_seconds < regrow_after:
        return Declined(
            "ignored",
            f"placed {event.since_placed_seconds:g} s ago; coordination.regrow_after is "
            f"{regrow_after:g} s",
        )
    after = replace(state, resize=_resize(event))
    return after, entry(after)


def _on_yield(state: RunState, event: ev.ResizeWanted) -> Move | Declined:
    already = state.resize if state.phase == "stopping" and not state.stop else None
    if already is None and (state.phase != "training" or not state.started):
        return unexpected(state, event)
    smallest = policy_in(state).workers[-1]
    if event.workers < smallest:
        return Declined("refused", f"fewer than {smallest} workers are not legal")
    if event.workers >= (already.workers if already else state.workers):
        return Declined("ignored", f"the run asks for no more than {event.workers} workers")
    known = replace(state, resize=_resize(event), most_workers=event.workers)
    if already:
        return known, ()
    seconds = policy_in(state).stop_timeout_seconds + GRACE_SECONDS
    wait = waiting(state, "the workers' last checkpoint before they yield", seconds)
    after = replace(known, phase="stopping", wait=wait)
    return after, entry(after)


def _resize(event: ev.ResizeWanted) -> Resize:
    return Resize(kind=event.resize, workers=event.workers, note=event.note)


def on_yield_over(state: RunState, _: ev.YieldOver) -> Move | Declined:
    """From the next reservation on, the run may be as large as it can."""
    if state.most_workers is None:
        return Declined("ignored", "the run has not yielded")
    return replace(state, most_workers=None), ()


def resized(state: RunState, resize: Resize) -> Move:
    """The workers have left for it: the next attempt begins, at no budget's cost."""
    left = replace(resize, left=True)
    return restart(replace(state, resize=left, num_resizes=state.num_resizes + 1, recovering=None))
