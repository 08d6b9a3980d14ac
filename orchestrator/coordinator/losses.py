"""What follows from the loss of a worker group?

The next attempt, within the budget of the cause, or the end with the arithmetic. Does not know
how a loss is noticed.
"""

from __future__ import annotations

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.answers import Declined, Move, unexpected
from orchestrator.coordinator.ending import end, end_stopped
from orchestrator.coordinator.holding import halt, policy_in
from orchestrator.coordinator.oom import ADVICE, arithmetic, legal_sizes, next_smaller
from orchestrator.coordinator.past import failed
from orchestrator.coordinator.placing import restart
from orchestrator.coordinator.policy import Cause
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.serving import promote
from orchestrator.coordinator.state import Drain, RunState

_OWN_CAUSES: tuple[Cause, ...] = ("user", "oom")
"""What would come again wherever the workers were, and is not an effect of nodes that go."""


def on_training_failed(state: RunState, event: ev.TrainingFailed) -> Move | Declined:
    """Restart within the budget of its cause, or end."""
    if state.phase not in ("training", "stopping"):
        return unexpected(state, event)
    known = exclude(state, event.nodes)
    if state.phase == "stopping" and state.stop:
        detail = f"without a last checkpoint, the workers were lost: {event.message}"
        return end_stopped(known, state.stop, detail)
    if state.drain and event.cause not in _OWN_CAUSES and not state.trained:
        return preempt(known, state.drain, event.message)
    return lose(known, event.cause, event.message, event.user_traceback)


def exclude(state: RunState, nodes: tuple[str, ...]) -> RunState:
    """These nodes must not be in a gang until they are cleared."""
    fresh = tuple(node for node in dict.fromkeys(nodes) if node not in state.excluded)
    if not fresh:
        return state
    suspects = tuple(node for node in state.suspects if node not in fresh)
    return replace(state, excluded=(*state.excluded, *fresh), suspects=suspects)


def lose(state: RunState, cause: Cause, message: str, user_traceback: str = "") -> Move:
    """The worker group is lost: restart it within the budget of the cause, or end."""
    if state.trained:  # nothing was lost with it
        stopped, actions = replace(state, busy="none"), halt(state)
        after, further = promote(stopped)
        return after, (*actions, *further)
    if cause == "oom" and legal_sizes(state):
        return _out_of_memory(failed(state), message)
    return again(state if cause == "user" else failed(state), cause, message, user_traceback)


def preempt(state: RunState, drain: Drain, unsaved: str = "") -> Move:
    """Nodes of the gang are going away: go on without them.

    A group that left in order lost nothing, so that it says nothing about how often to save state;
    ``unsaved`` says why one did not, which is then a failure like others.
    """
    verb, why = "is" if len(drain.nodes) == 1 else "are", f" ({drain.why})" if drain.why else ""
    taken = f"{', '.join(drain.nodes)} {verb} being taken away{why}"
    message = f"{taken}; {unsaved}" if unsaved else taken
    return again(failed(state) if unsaved else state, "preemption", message)


def again(state: RunState, cause: Cause, message: str, user_traceback: str = "") -> Move:
    """Restart within the budget of ``cause``, or end."""
    if is_spent(state, cause):
        return end(state, 1, _spent(state, cause, message), user_traceback)
    used = state.restarts_used.get(cause, 0)
    return restart(
        replace(
            state,
            restarts_used={**state.restarts_used, cause: used + 1},
            num_restarts=state.num_restarts + 1,
            recovering=cause,
            resize=None,
        )
    )


def is_spent(state: RunState, cause: Cause) -> bool:
    """Whether no restart of this cause is left to this driver."""
    budget = _budget(state, cause)
    return 0 <= budget <= state.restarts_used.get(cause, 0)


def _budget(state: RunState, cause: Cause) -> int:
    return policy_in(state).restarts.get(cause, 0)


def _out_of_memory(state: RunState, message: str) -> Move:
    """Never unchanged: with the next smaller micro-batch, now or when the run is resumed."""
    smaller = next_smaller(state)
    if smaller is None:
        text = f"{message} (cause: oom; with {arithmetic(state)}; what could help: {ADVICE})"
        return end(state, 1, text)
    known = replace(state, micro_batch=smaller)
    if not is_spent(state, "oom"):
        return again(known, "oom", message)
    text = (
        f"{message} (cause: oom; with {arithmetic(state)}; {_used(state, 'oom')}; the same command "
        f"goes on from step {state.committed_step} with micro-batches of {smaller}; what could "
        f"help besides: {ADVICE})"
    )
    return end(known, 1, text)


def _spent(state: RunState, cause: Cause, message: str) -> str:
    if cause == "user" and _budget(state, cause) == 0:
        return f"the Job's own code raised: {message}"
    resume = (
        f"the same command resumes from step {state.committed_step}"
        if state.committed
        else "no checkpoint was committed yet"
    )
    return f"{message} (cause: {cause}; {_used(state, cause)}; {resume})"


def _used(state: RunState, cause: Cause) -> str:
    used = state.restarts_used.get(cause, 0)
    return f"restarts used {used} of coordination.restarts.{cause}={_budget(state, cause)}"
