"""How does a run end? With an outcome, and everything given back."""

from __future__ import annotations

from orchestrator.coordinator.answers import Move
from orchestrator.coordinator.dues import entry
from orchestrator.coordinator.holding import GRACE_SECONDS, clear, policy_in, waiting
from orchestrator.coordinator.replacing import replace
from orchestrator.coordinator.state import Outcome, RunState, Stop

STOP_EXIT_CODES = {"ctrl-c": 130, "request": 6, "sigterm": 6, "budget": 5}
_STOPPED_BY = {"ctrl-c": "Ctrl-C", "request": "request", "sigterm": "SIGTERM"}


def end_stopped(state: RunState, stop: Stop, detail: str = "") -> Move:
    """End because of a stop, in the middle of things."""
    done = f"{state.committed_step} of {state.steps} steps are committed"
    if stop.by == "budget":
        message = f"{stop.why}; {done}"
    else:
        how = _STOPPED_BY[stop.by]
        message = f"stopped by {how} while {state.phase}; {done}; the same command resumes"
    text = f"{message} ({detail})" if detail else message
    return end(replace(state, stop=stop), STOP_EXIT_CODES[stop.by], text)


def end(state: RunState, exit_code: int, message: str, user_traceback: str = "") -> Move:
    """Settle the outcome; give back everything, and end once that is confirmed."""
    outcome = Outcome(exit_code=exit_code, message=message, user_traceback=user_traceback)
    timeout_seconds = 2 * policy_in(state).stop_timeout_seconds + GRACE_SECONDS
    ending = replace(
        state,
        phase="ending",
        outcome=outcome,
        example_pending=False,
        recovering=None,
        resize=None,
        drain=None,
        queue=None,
        wait=waiting(state, "everything held to be given back", timeout_seconds),
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
