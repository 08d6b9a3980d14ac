"""How fast are training steps? ``axis run`` beside ``torchrun`` and ``TorchTrainer``.

The model and options of ``configs/gpt-stdlib.yaml`` on two workers, same sample store and batch.
Each repetition is a whole run of each, one after the other. A run's rate is that of its median
stretch of ten steps after the warm-up: each stretch holds one logged step of the hand-written
loops, and a moment in which the machine did something else spoils one stretch alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.by_hand.ddp_loop import LOG_EVERY, Settings
from benchmarks.comparison import Comparison, Outcome
from benchmarks.runs import axis_run, load_config, prepared, training_plan
from benchmarks.workplace import Workplace, say

STRETCH = LOG_EVERY
WARM_UP_STEPS = 30
AXIS, TORCHRUN, RAY_TRAIN, RAY_TRAIN_QUIET = (
    "axis run",
    "torchrun",
    "TorchTrainer",
    "TorchTrainer that reports nothing",
)


def measure(place: Workplace) -> Outcome:
    """Tokens per second of all of them."""
    repetitions, steps = place.size(5, 2), place.size(150, 60)
    reported = place.size(60, 20)
    store = prepared(place, "gpt-stdlib").store
    config = load_config("gpt-stdlib")
    tokens = config["training"]["global_batch"] * config["options"]["seq_len"] * STRETCH
    rates: dict[str, list[float]] = {
        name: [] for name in (AXIS, TORCHRUN, RAY_TRAIN, RAY_TRAIN_QUIET)
    }
    losses: dict[str, list[float]] = {name: [] for name in (AXIS, TORCHRUN)}

    def note(name: str, times: Sequence[float]) -> None:
        rates[name].append(tokens / stretch_seconds(times))
        say(f"{name}: {rates[name][-1]:,.0f} tokens/s")

    def axis(turn: int) -> None:
        run = axis_run(place, training_plan(place, "gpt-stdlib", f"training-{turn}", steps))
        losses[AXIS].append(run.steps[-1]["loss"])
        note(AXIS, run.step_times[WARM_UP_STEPS - 1 :])

    def torchrun(turn: int) -> None:
        output = place.folder / f"torchrun-{turn}.json"
        settings = loop_settings(store, output, steps).write(output.with_suffix(".settings"))
        program = "benchmarks/by_hand/torchrun_ddp.py"
        place.python(
            "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", program, settings
        )
        result = json.loads(output.read_text())
        losses[TORCHRUN].append(result["loss"])
        note(TORCHRUN, result["step_times"][WARM_UP_STEPS - 1 :])

    def ray_train(turn: int) -> None:
        output = place.folder / f"ray-train-{turn}.json"
        last = WARM_UP_STEPS + reported
        settings = loop_settings(store, output, last + steps - WARM_UP_STEPS, report_until=last)
        path = settings.write(output.with_suffix(".settings"))
        place.python("-m", "benchmarks.by_hand.ray_train_ddp", path, str(place.folder / "train"))
        times = json.loads(output.read_text())["step_times"]
        note(RAY_TRAIN, times[WARM_UP_STEPS - 1 : last])
        note(RAY_TRAIN_QUIET, times[last - 1 :])

    for turn in range(repetitions):
        say(f"repetition {turn + 1} of {repetitions}")
        for contender in in_turn([axis, torchrun, ray_train], turn):
            contender(turn)
    return Outcome(
        "Training throughput: a small GPT on 2 workers",
        [
            _compared(rates, TORCHRUN, 0.98),
            _compared(rates, RAY_TRAIN, 1.0),
            _compared(rates, RAY_TRAIN_QUIET, None),
        ],
        settings={
            "plan": "configs/gpt-stdlib.yaml",
            "steps": steps,
            "warm_up_steps": WARM_UP_STEPS,
            "stretch_steps": STRETCH,
            "tokens_per_step": tokens // STRETCH,
        },
        extras={"last_loss": losses},
        notes=[
            "a run's rate is that of its median stretch of ten steps; whole runs alternate",
            f"both loops train: the last loss is {median(losses[AXIS]):.2f} with axis (mean over "
            f"both workers), {median(losses[TORCHRUN]):.2f} with torchrun (rank 0's own share)",
            "TorchTrainer reports every 10 steps with ray.train.report, which waits for Ray "
            "Train's next poll (every 2 s by default)",
        ],
    )


def loop_settings(store: Path, output: Path, steps: int, report_until: int = 0) -> Settings:
    """The hand-written loop, told to do what ``configs/gpt-stdlib.yaml`` says."""
    config = load_config("gpt-stdlib")
    training = config["training"]
    return Settings(
        store=str(store),
        output=str(output),
        options=config["options"],
        global_batch=training["global_batch"],
        steps=steps,
        lr=float(training["optimizer"]["lr"]),
        warmup=training["schedule"]["warmup"],
        report_until=report_until,
    )


def stretch_seconds(times: Sequence[float]) -> float:
    """The median time of ``STRETCH`` steps; ``times`` are the ends of steps, one after another."""
    ends = times[::STRETCH]
    return median(after - before for before, after in pairwise(ends))


def in_turn(contenders: Sequence[Callable[[int], None]], turn: int) -> list[Callable[[int], None]]:
    """The contenders, in reverse order every other time, so that a drift favours nobody."""
    return list(contenders if turn % 2 == 0 else reversed(contenders))


def _compared(rates: dict[str, list[float]], name: str, goal: float | None) -> Comparison:
    return Comparison("steady training", "tokens/s", rates[AXIS], rates[name], name, goal)
