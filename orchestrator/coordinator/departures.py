"""What follows from what is heard of nodes: that they go, are silent, or are well again?

A node that is silent is a suspect and nothing more: the present group goes on, for it may only
have been a blip, and the next gang does without it. One that goes, with notice, has its workers
leave in time.
"""

from __future__ import annotations

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.answers import Declined, Move, unexpected
from orchestrator.coordinator.dues import entry
from orchestrator.coordinator.holding import GRACE_SECONDS, policy_in, waiting
from orchestrator.coordinator.losses import exclude, preempt
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import Drain, RunState

_OVER = ("new", "ending", "ended")

MARGIN_SECONDS = 1.0
"""So much earlier than their node goes workers should have left."""


def on_node_suspected(state: RunState, event: ev.NodeSuspected) -> Move | Declined:
    """The next gang does without it."""
    if state.phase in _OVER:
        return unexpected(state, event)
    if event.node in (*state.suspects, *state.excluded):
        return Declined("ignored", f"{event.node} is not to be used already")
    return replace(state, suspects=(*state.suspects, event.node)), ()


def on_node_cleared(state: RunState, event: ev.NodeCleared) -> Move | Declined:
    """It may be used again."""
    if event.node not in (*state.suspects, *state.excluded):
        return Declined("ignored", f"nothing was held against {event.node}")
    suspects = tuple(node for node in state.suspects if node != event.node)
    excluded = tuple(node for node in state.excluded if node != event.node)
    return replace(state, suspects=suspects, excluded=excluded), ()


def on_drain_noticed(state: RunState, event: ev.DrainNoticed) -> Move | Declined:
    """Workers on these nodes leave in time, with a last checkpoint; nobody goes there again."""
    if state.phase in _OVER:
        return unexpected(state, event)
    if not event.nodes:
        return Declined("refused", "the notice names no node")
    known = exclude(state, event.nodes)
    if _concerned(state, event.nodes):
        return _make_way(known, event)
    if known is state:
        return Declined("ignored", "these nodes are not to be used already")
    return known, ()


def _concerned(state: RunState, nodes: tuple[str, ...]) -> bool:
    """Whether data tasks or workers have to leave because of these nodes, and do not know it."""
    if state.phase == "training":
        at_work = not state.trained
    elif state.phase == "stopping":
        at_work = not (state.stop or state.drain or state.trained)
    else:
        at_work = state.phase == "sharding"
    return at_work and (not state.nodes or not set(nodes).isdisjoint(state.nodes))


def _make_way(state: RunState, event: ev.DrainNoticed) -> Move:
    policy = policy_in(state)
    told = event.grace_seconds
    grace_seconds = policy.preemption_grace_seconds if told is None else told
    timeout_seconds = min(grace_seconds - MARGIN_SECONDS, policy.stop_timeout_seconds)
    ours = tuple(node for node in event.nodes if node in state.nodes)
    drain = Drain(nodes=ours or event.nodes, timeout_seconds=timeout_seconds, why=event.why)
    if not state.stepping:
        return preempt(state, drain)
    if not timeout_seconds > 0:
        return preempt(state, drain, f"{grace_seconds:g} s are too few for a checkpoint")
    seconds = min(grace_seconds, policy.stop_timeout_seconds + GRACE_SECONDS)
    wait = waiting(state, "the workers' last checkpoint before their node goes", seconds)
    after = replace(state, phase="stopping", drain=drain, resize=None, wait=wait)
    return after, entry(after)
