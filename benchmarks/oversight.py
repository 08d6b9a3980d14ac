"""What does it cost a step that a coordinator is there?

``axis run`` beside the same loop on ``TorchTrainer`` workers with a channel that writes files: no
coordinator, no heartbeats, no look-out for slow workers. Plan, store, batch and cluster are the
same. Whole runs alternate; a run's figure is its median stretch of ten steps after the warm-up.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.by_hand.ray_train_loop import Settings
from benchmarks.comparison import Comparison, Outcome
from benchmarks.runs import axis_run, prepared, training_plan, write_plan
from benchmarks.training import STRETCH, WARM_UP_STEPS, in_turn, stretch_seconds
from benchmarks.workplace import Workplace, say

GOAL = 1.01


def measure(place: Workplace) -> Outcome:
    """Milliseconds of a step with and without."""
    repetitions, steps = place.size(5, 1), place.size(250, 60)
    store = str(prepared(place, "gpt-stdlib").store)
    led: list[float] = []
    unled: list[float] = []

    def note(series: list[float], what: str, times: list[float]) -> None:
        series.append(1e3 * stretch_seconds(times[WARM_UP_STEPS - 1 :]) / STRETCH)
        say(f"{what}: {series[-1]:.2f} ms a step")

    def axis(turn: int) -> None:
        run = axis_run(place, training_plan(place, "gpt-stdlib", f"led-{turn}", steps))
        note(led, "axis run", run.step_times)

    def alone(turn: int) -> None:
        plan = write_plan(place, training_plan(place, "gpt-stdlib", f"unled-{turn}", steps))
        output = place.folder / f"unled-{turn}.json"
        run = str(place.folder / f"unled-{turn}")
        settings = Settings(plan=str(plan), store=store, run=run, output=str(output))
        path = settings.write(output.with_suffix(".settings"))
        place.python("-m", "benchmarks.by_hand.ray_train_loop", path)
        times = json.loads(Path(f"{output}.0").read_text())["step_times"]
        note(unled, "the same loop without a coordinator", times)

    for turn in range(repetitions):
        say(f"repetition {turn + 1} of {repetitions}")
        for contender in in_turn([axis, alone], turn):
            contender(turn)
    return Outcome(
        "Oversight: what a coordinator costs a step, a small GPT on 2 workers",
        [
            Comparison(
                "a step", "ms", led, unled, "the same loop without a coordinator", GOAL, False
            )
        ],
        settings={"plan": "configs/gpt-stdlib.yaml", "steps": steps, "stretch_steps": STRETCH},
        notes=["a run's figure is that of its median stretch of ten steps; whole runs alternate"],
    )
