"""How long until the first step is finished, on a cluster that is up?

``axis run --address`` beside a raw ``TorchTrainer``, each a process of its own that connects to
the same cluster, in turn. The clock of both starts when the connected process asks for the
training, and ends with the first optimizer step of rank 0. For axis that is from ``opened`` to
the record of step 1, and so includes the reservation and finding the store; for ``TorchTrainer``
from the call of ``fit``. The sample store is there.
"""

from __future__ import annotations

import json
import time

from benchmarks.comparison import Comparison, Outcome
from benchmarks.runs import axis_run, prepared, training_plan
from benchmarks.training import in_turn, loop_settings
from benchmarks.workplace import Workplace, say

CPUS = 4
STEPS = 3
GOAL = 1.1
AXIS, BY_HAND = "axis", "by_hand"


def measure(place: Workplace) -> Outcome:
    """Seconds to the first step of both."""
    repetitions = place.size(6, 2)
    store = prepared(place, "gpt-stdlib").store
    first: dict[str, list[float]] = {AXIS: [], BY_HAND: []}
    whole: dict[str, list[float]] = {AXIS: [], BY_HAND: []}
    phases: list[dict[str, float]] = []

    def note(name: str, begun: float, called: float, stepped: float) -> None:
        first[name].append(stepped - called)
        whole[name].append(stepped - begun)
        say(f"{name}: first step after {stepped - called:.2f} s, {stepped - begun:.2f} s in all")

    with place.host("-m", "benchmarks.cluster", str(CPUS)) as cluster:
        address = cluster["address"]

        def axis(turn: int) -> None:
            plan = training_plan(place, "gpt-stdlib", f"first-step-{turn}", STEPS)
            begun = time.time()
            run = axis_run(place, plan, "--address", address)
            opened = run.event("opened")["at_seconds"]
            phases.append(
                {
                    kind: run.event(kind)["at_seconds"] - opened
                    for kind in ("gang-placed", "store-ready")
                }
            )
            note(AXIS, begun, opened, run.step_times[0])

        def by_hand(turn: int) -> None:
            output = place.folder / f"first-step-{turn}.json"
            path = loop_settings(store, output, STEPS).write(output.with_suffix(".settings"))
            begun = time.time()
            folder = str(place.folder / "train")
            out = place.python("-m", "benchmarks.by_hand.ray_train_ddp", path, folder, address)
            called = json.loads(out.splitlines()[-1])["called_at"]
            note(BY_HAND, begun, called, json.loads(output.read_text())["step_times"][0])

        say("warming up")
        for contender in (axis, by_hand):
            contender(-1)
        for series in (*first.values(), *whole.values(), phases):
            series.clear()
        for turn in range(repetitions):
            say(f"repetition {turn + 1} of {repetitions}")
            for contender in in_turn([axis, by_hand], turn):
                contender(turn)
    return Outcome(
        "Time to the first step on a warm cluster",
        [
            _compared("first step, from the call", first, GOAL),
            _compared("first step, from the command", whole, None),
        ],
        settings={"plan": "configs/gpt-stdlib.yaml", "cluster_cpus": CPUS},
        extras={"axis_seconds_from_opened": phases},
        notes=[
            "axis: from `opened` in the journal to the record of step 1, with the reservation and "
            "the look-up of the store; TorchTrainer: from `fit` to its first step",
        ],
    )


def _compared(what: str, runs: dict[str, list[float]], goal: float | None) -> Comparison:
    return Comparison(what, "s", runs[AXIS], runs[BY_HAND], "TorchTrainer", goal, False)
