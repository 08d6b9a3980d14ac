"""Who may stop a run, or give up a wait, and how does it wind down?"""

from __future__ import annotations

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.answers import Declined, Move
from orchestrator.coordinator.budget import limit_of, words
from orchestrator.coordinator.dues import entry
from orchestrator.coordinator.ending import end, end_stopped
from orchestrator.coordinator.holding import GRACE_SECONDS, policy_in, waiting
from orchestrator.coordinator.losses import lose, preempt
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.resize import resized
from orchestrator.coordinator.state import Outcome, RunState, Stop


def on_stop_requested(state: RunState, event: ev.StopRequested) -> Move | Declined:
    """Stop in order: with a last checkpoint where workers are stepping."""
    stop = Stop(by=event.by, at_seconds=event.at_seconds)
    if state.phase == "stopping" and state.stop:
        if stop == state.stop or event.by != "ctrl-c":
            return Declined("ignored", f"the run is stopping already, by {state.stop.by}")
        which = "a Ctrl-C" if state.stop.by == "budget" else "a second Ctrl-C"
        return end_stopped(state, state.stop, f"{which}: without a last checkpoint")
    if state.phase in ("new", "ending", "ended"):
        return Declined("ignored", f"there is nothing to stop while {state.phase}")
    if state.stepping:
        return wind_down(state, stop)
    if state.phase == "serving" and not state.example_pending:
        step = state.promoted.step if state.promoted else state.committed_step
        served = f"trained, and served step {step} at {state.url} until it was stopped"
        return end(replace(state, stop=stop), 0, served)
    return end_stopped(state, stop)


def on_budget_spent(state: RunState, event: ev.BudgetSpent) -> Move | Declined:
    """Stop in the same way, with exit code 5."""
    if state.phase in ("new", "ending", "ended"):
        return Declined("ignored", f"there is nothing to stop while {state.phase}")
    limit = limit_of(state, event.what)
    if limit is None or event.used < limit:
        return Declined(
            "refused", f"coordination.budget.{event.what} is {limit}, used {event.used}"
        )
    if state.phase == "stopping" and state.stop:
        return Declined("ignored", f"the run is stopping already, by {state.stop.by}")
    stop = Stop(by="budget", at_seconds=event.at_seconds, why=words(state, event))
    return wind_down(state, stop) if state.stepping else end_stopped(state, stop)


def wind_down(state: RunState, stop: Stop) -> Move:
    """Ask the workers for a last checkpoint and to leave."""
    timeout_seconds = policy_in(state).stop_timeout_seconds + GRACE_SECONDS
    wait = waiting(state, "the workers' last checkpoint", timeout_seconds)
    if state.drain:  # their node goes all the same
        wait = state.wait or wait
    after = replace(state, phase="stopping", stop=stop, resize=None, wait=wait)
    return after, entry(after)


def on_expired(state: RunState, event: ev.Expired) -> Move | Declined:
    """What was waited for did not come."""
    wait = state.wait
    if wait is None or (event.what, event.since) != (wait.what, wait.since):
        return Declined("ignored", f"{event.what!r} is no longer waited for")
    missing = f"waited {wait.timeout_seconds:g} s for {wait.what}, in vain"
    if state.phase == "training":
        return lose(state, "hang", missing)
    if state.phase == "stopping":
        return _left_waiting(state, missing)
    if state.phase == "ending":
        return _end_unconfirmed(state, missing)
    return end(state, 4 if state.phase == "reserving" else 1, missing)


def _left_waiting(state: RunState, missing: str) -> Move:
    """The workers did not leave in time. Whoever needed their room, or their end, has it now."""
    if state.stop:
        return end_stopped(state, state.stop, missing)
    if state.drain and not state.trained:
        return preempt(state, state.drain, missing)
    if state.resize and not state.trained:
        return resized(state, state.resize)
    return lose(state, "hang", missing)


def _end_unconfirmed(state: RunState, missing: str) -> Move:
    # What is held stays in the state, so that the next attempt gives it back first.
    known = state.outcome or Outcome(exit_code=1, message="ended")
    outcome = replace(known, message=f"{known.message} ({missing})")
    after = replace(state, phase="ended", wait=None, outcome=outcome)
    return after, entry(after)
