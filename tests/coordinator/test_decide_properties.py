"""Thousands of random runs, with what must always hold checked after every single event
(``invariants``)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.reactions import REACTIONS
from orchestrator.coordinator.state import CheckpointRecord, RunState
from tests.coordinator.invariants import WAITING, Run, check_decision
from tests.coordinator.random_runs import ANYTHING, any_event, likely_event, opened

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("oddness", [0.02, 0.1, 0.3, 1.0])
def test_random_runs_keep_every_invariant(oddness: float) -> None:
    reached = set[str]()
    codes = set[int]()
    for seed in range(400):
        rng, run = random.Random(seed), Run()
        try:
            for _ in range(60):
                run.clock += rng.random() - 0.1  # the clocks of senders disagree
                odd = rng.random() < oddness
                event = (any_event if odd else likely_event)(rng, run.state, run.clock)
                run.tell(event)
                reached.add(run.state.phase)
                if run.state.outcome:
                    codes.add(run.state.outcome.exit_code)
            run.check_replay()
        except Exception as error:
            raise AssertionError(f"seed {seed}, oddness {oddness}: {error!r}") from error
    if oddness <= 0.3:  # the generator must get everywhere, or it proves nothing
        assert reached >= {*WAITING, "serving", "ended"}
    if oddness in (0.1, 0.3):
        assert codes >= {0, 1, 4, 5, 6, 7, 130}


TRANSITIONS = {
    ("reserving", "gang-timed-out", "reserving"),
    ("reserving", "gang-timed-out", "ending"),
    ("reserving", "gang-placed", "reserving"),  # on nodes that were given up meanwhile
    ("reserving", "queued", "reserving"),
    ("sharding", "drain-noticed", "reserving"),
    ("training", "drain-noticed", "training"),
    ("training", "drain-noticed", "reserving"),
    ("training", "drain-noticed", "stopping"),
    ("training", "node-suspected", "training"),
    ("training", "node-cleared", "training"),
    ("training", "resize-wanted", "training"),
    ("training", "resize-wanted", "stopping"),
    ("training", "yield-over", "training"),
    ("training", "training-ended", "reserving"),
    ("training", "training-failed", "reserving"),
    ("training", "training-failed", "ending"),
    ("training", "budget-spent", "stopping"),
    ("stopping", "training-ended", "reserving"),
    ("stopping", "training-ended", "deploying"),
    ("stopping", "training-failed", "reserving"),
    ("stopping", "expired", "reserving"),
    ("stopping", "stop-requested", "stopping"),
    ("stopping", "budget-spent", "stopping"),
    ("deploying", "deploy-failed", "reserving"),
    ("deploying", "deploy-failed", "ending"),
    ("serving", "budget-spent", "ending"),
}
"""Phase, event, phase: what random runs must come by, or they prove nothing about it."""


def test_random_runs_come_by_every_transition_worth_a_name() -> None:
    found = set[tuple[str, str, str]]()
    for seed in range(1000):
        rng, run = random.Random(seed), Run()
        for _ in range(60):
            run.clock += rng.random()
            maker = any_event if rng.random() < 0.3 else likely_event
            before, event = run.state.phase, maker(rng, run.state, run.clock)
            if run.tell(event).accepted:
                found.add((before, event.kind, run.state.phase))
    assert found >= TRANSITIONS, TRANSITIONS - found


def test_every_event_is_answered_in_every_phase() -> None:
    """Total: whatever is told wherever, there is an answer, and it keeps every invariant."""
    seen = set[tuple[str, type[ev.BaseEvent]]]()
    for seed in range(300):
        rng, run = random.Random(seed), Run()
        for _ in range(30):
            run.tell(likely_event(rng, run.state, 0.0))
            stamp = {"attempt": run.state.attempt, "at_seconds": 0.0}
            for maker in ANYTHING:
                event = maker(rng, run.state, stamp)
                check_decision(run.state, event, decide(run.state, event))
                seen.add((run.state.phase, type(event)))
    kinds = set(REACTIONS) - {ev.Opened}
    assert seen >= {(phase, kind) for phase in (*WAITING, "serving", "ended") for kind in kinds}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32), st.booleans()), max_size=40))
def test_any_sequence_of_events_is_answered_and_replays(moves: list[tuple[int, bool]]) -> None:
    run = Run()
    for seed, likely in moves:
        maker = likely_event if likely else any_event
        run.tell(maker(random.Random(seed), run.state, 0.0))
    run.check_replay()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32), st.booleans()), max_size=30), st.integers(0, 9))
def test_telling_an_event_twice_never_counts_twice(
    moves: list[tuple[int, bool]], which: int
) -> None:
    """A sender that got no reply repeats itself: no second reservation, restart or commit."""
    run = Run()
    for seed, likely in moves:
        maker = likely_event if likely else any_event
        event = maker(random.Random(seed), run.state, 0.0)
        if isinstance(event, ev.Progressed):
            continue  # renewing a wait twice is no harm
        first = run.tell(event)
        if first.accepted:
            attempt, restarts = run.state.attempt, run.state.num_restarts
            tried, resizes = run.state.gang_tried, run.state.num_resizes
            commits = run.state.committed
            run.tell(event)
            assert (run.state.attempt, run.state.num_restarts) == (attempt, restarts)
            assert (run.state.gang_tried, run.state.num_resizes) == (tried, resizes)
            assert run.state.committed == commits


def test_every_wait_ends_the_run_if_nothing_ever_comes() -> None:
    """Nothing hangs: from wherever random runs get to, expiries alone lead to the end."""
    for seed in range(300):
        rng, run = random.Random(seed), Run()
        for _ in range(rng.randrange(1, 40)):
            maker = any_event if rng.random() < 0.1 else likely_event
            run.tell(maker(rng, run.state, 0.0))
        if run.state.policy is None:
            continue
        patience = 60
        while run.state.phase != "ended" and run.state.wait is not None and patience:
            patience -= 1
            wait = run.state.wait
            run.tell(
                ev.Expired(
                    attempt=run.state.attempt, at_seconds=0.0, what=wait.what, since=wait.since
                )
            )
        unlimited = run.state.policy.restarts["hang"] == -1
        serving = run.state.phase == "serving"
        assert run.state.phase == "ended" or serving or unlimited, f"seed {seed}"


def test_every_kind_of_event_survives_json() -> None:
    rng, state = random.Random(0), RunState(attempt=3)
    stamp = {"attempt": 3, "at_seconds": 1.5}
    made = [maker(rng, state, stamp) for maker in ANYTHING] + [opened(rng, state, 2.0)]
    made.append(
        ev.CheckpointCommitted(
            checkpoint=CheckpointRecord(
                step=1, attempt=3, folder="f", metrics={"a": float("inf"), "b": float("nan")}
            ),
            **stamp,
        )
    )
    assert {type(event) for event in made} == set(ev.EVENT_TYPES)
    for event in made:
        assert repr(ev.from_json(ev.to_json(event))) == repr(event)
