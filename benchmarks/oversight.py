"""What does it cost a step that a coordinator is there?

``axis run`` beside the same loop on ``TorchTrainer`` workers with a channel that writes files: no
coordinator, no heartbeats, no look-out for slow workers. Once without standbys, and once with
them, which by default come after a minute, here at once. Plan, store, batch and cluster are the
same. Whole runs alternate; a run's figure is the median stretch of ten steps of its second half.
Steps of equal runs differ by more than the goal, so that the processor time of coordinator, driver
and standbys is told, too: what they take of the cores is what workers that fill the cores cannot
have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.by_hand.ray_train_loop import Settings
from benchmarks.comparison import Comparison, Outcome
from benchmarks.processor_time import ProcessorTime, watched
from benchmarks.runs import Run, axis_run, prepared, training_plan, write_plan
from benchmarks.training import STRETCH, WARM_UP_STEPS, in_turn, stretch_seconds
from benchmarks.workplace import Workplace, say

GOAL = 1.01
_IDLE = 0.1
"""A worker that takes less of a core than this is a standby."""


def measure(place: Workplace) -> Outcome:
    """Milliseconds of a step with and without."""
    repetitions, steps = place.size(3, 1), place.size(400, 60)
    store = str(prepared(place, "gpt-stdlib").store)
    times: dict[str, list[float]] = {"alone": [], "standbys": [], "unled": []}
    taken: list[dict[str, float]] = []

    def note(series: str, what: str, ended: list[float]) -> None:
        late = ended[max(WARM_UP_STEPS, len(ended) // 2) :]  # standbys are up and still by then
        times[series].append(1e3 * stretch_seconds(late) / STRETCH)
        say(f"{what}: {times[series][-1]:.2f} ms a step")

    def led(turn: int, series: str) -> None:
        plan = training_plan(place, "gpt-stdlib", f"{series}-{turn}", steps)
        plan["coordination"] |= {"standby": series == "standbys", "standby_after": "1s"}
        with watched() as found:
            run = axis_run(place, plan)
        note(series, f"axis run, {series}", run.step_times)
        if series == "standbys":
            taken.append(_taken(found, run))

    def unled(turn: int) -> None:
        plan = write_plan(place, training_plan(place, "gpt-stdlib", f"unled-{turn}", steps))
        output = place.folder / f"unled-{turn}.json"
        run = str(place.folder / f"unled-{turn}")
        settings = Settings(plan=str(plan), store=store, run=run, output=str(output))
        path = settings.write(output.with_suffix(".settings"))
        with watched():
            place.python("-m", "benchmarks.by_hand.ray_train_loop", path)
        ended = json.loads(Path(f"{output}.0").read_text())["step_times"]
        note("unled", "the same loop without a coordinator", ended)

    contenders = [lambda turn: led(turn, "alone"), lambda turn: led(turn, "standbys"), unled]
    for turn in range(repetitions):
        say(f"repetition {turn + 1} of {repetitions}")
        for contender in in_turn(contenders, turn):
            contender(turn)
    return _outcome(times, taken, steps)


def _taken(found: ProcessorTime, run: Run) -> dict[str, float]:
    """Shares of a core, in the second half of the steps, of what is there besides the workers."""
    middle = run.step_times[len(run.step_times) // 2]
    shares = found.shares(middle, run.step_times[-1])
    kinds = {"coordinator": "ray::Coordinator", "driver": "orchestrator.cli run"}
    own = {
        kind: sum(share for pid, share in shares.items() if word in found.names[pid])
        for kind, word in kinds.items()
    }
    idle = [
        share
        for pid, share in shares.items()
        if "RayTrainWorker" in found.names[pid] and share < _IDLE
    ]
    return {**own, "standbys": sum(idle)}


def _outcome(
    times: Mapping[str, list[float]], taken: list[dict[str, float]], steps: int
) -> Outcome:
    cores = len(os.sched_getaffinity(0))
    shares = {kind: median(each[kind] for each in taken) for kind in taken[0]}
    told = ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
    whole = sum(shares.values()) / cores

    def row(what: str, series: str) -> Comparison:
        against = "the same loop without a coordinator"
        return Comparison(what, "ms", times[series], times["unled"], against, GOAL, False)

    extras: dict[str, Any] = {"shares_of_a_core": shares, "runs": taken, "cores": cores}
    return Outcome(
        "Oversight: what a coordinator costs a step, a small GPT on 2 workers",
        [row("a step, no standbys", "alone"), row("a step, with standbys", "standbys")],
        settings={"plan": "configs/gpt-stdlib.yaml", "steps": steps, "stretch_steps": STRETCH},
        extras=extras,
        notes=[
            "a run's figure is the median stretch of ten steps of its second half; whole runs "
            "alternate",
            f"processor time while steps are taken, of one core: {told}; that is {whole:.1%} of "
            f"the {cores} cores there are",
        ],
    )
