"""How fast are steps on a mesh, and how much does each rank hold? Beside loops written by hand.

``torchrun -m orchestrator.parallel`` trains a Llama on one mesh after another, and so does a loop
by hand: with DDP, FSDP2, HSDP, tensor and sequence parallelism, or torch's own 1F1B pipeline. Same
model, sample store, batch, micro-batches, AdamW and schedule. Each repetition is a whole run of
each, one after the other; a run's rate is that of its median stretch of ten steps after the
warm-up, as in ``training``.
"""

from __future__ import annotations

from benchmarks.comparison import Comparison, Outcome
from benchmarks.mesh_runs import (
    LARGE_MODEL,
    MODEL,
    SEQ_LEN,
    WARM_UP_STEPS,
    Bench,
    Case,
    Trained,
    middle,
    most,
)
from benchmarks.training import STRETCH, in_turn
from benchmarks.workplace import Workplace, say

GOAL = 0.97
MEMORY_GOAL = 1.1 / 4
GLOBAL_BATCH = 16
DP4 = Case("dp4", "DDP", {"replicate": 4})
FSDP4 = Case("fsdp4", "FSDP2", {"shard": 4})
CASES = (
    Case("dp2", "DDP", {"replicate": 2}),
    DP4,
    FSDP4,
    Case("dp2×fsdp2", "FSDP2 over two dimensions", {"replicate": 2, "shard": 2}),
    Case("tp2×fsdp2", "parallelize_module and FSDP2", {"shard": 2, "tensor": 2}),
    Case("pp2×dp2", "Schedule1F1B and DDP", {"pipeline": 2, "replicate": 2}),
)
HELD = ("parameter_bytes", "gradient_bytes", "state_bytes")

Runs = dict[str, list[Trained]]


def measure(place: Workplace) -> Outcome:
    """Tokens per second on each mesh, and the memory of fsdp4 beside that of dp4."""
    bench = Bench(place, GLOBAL_BATCH, steps=place.size(80, 30))
    ours: Runs = {case.name: [] for case in CASES}
    theirs: Runs = {case.name: [] for case in CASES}
    for turn in range(repetitions := place.size(3, 1)):
        say(f"repetition {turn + 1} of {repetitions}")
        for case in CASES:
            _both(bench, case, turn, ours[case.name], theirs[case.name])
    memory = {case.name: bench.memory(case, f"memory-{case.slug}") for case in (DP4, FSDP4)}
    return Outcome(
        "Meshes: a small Llama on 2 and 4 ranks of one machine",
        [
            *(_rates(case, ours[case.name], theirs[case.name]) for case in CASES),
            *(_work(case, ours[case.name], theirs[case.name]) for case in CASES),
            *_memory(memory),
        ],
        settings={
            "options": MODEL,
            "options_memory": LARGE_MODEL,
            "tokens_per_step": GLOBAL_BATCH * SEQ_LEN,
            "steps": bench.steps,
            "warm_up_steps": WARM_UP_STEPS,
            "stretch_steps": STRETCH,
        },
        extras={"last_loss": _of("loss", ours, theirs), "memory_of_ranks": memory}
        | {"peak_resident_bytes": _of("peak_resident_bytes", ours, theirs)},
        notes=_notes(memory),
    )


def _both(bench: Bench, case: Case, turn: int, ours: list[Trained], theirs: list[Trained]) -> None:
    def axis(turn: int) -> None:
        ours.append(bench.axis(case, f"{case.slug}-axis-{turn}"))
        _note(f"{case.name}, axis", ours[-1])

    def by_hand(turn: int) -> None:
        theirs.append(bench.by_hand(case, f"{case.slug}-by-hand-{turn}"))
        _note(f"{case.name}, by hand", theirs[-1])

    for contender in in_turn([axis, by_hand], turn):
        contender(turn)


def _note(who: str, run: Trained) -> None:
    wall, cpu = run.stretch_seconds / STRETCH, run.stretch_cpu_seconds / STRETCH
    say(f"{who}: {wall * 1e3:.0f} ms a step, {cpu * 1e3:.0f} ms of processor time")


def _rates(case: Case, ours: list[Trained], theirs: list[Trained]) -> Comparison:
    tokens = GLOBAL_BATCH * SEQ_LEN * STRETCH
    axis, by_hand = ([tokens / run.stretch_seconds for run in runs] for runs in (ours, theirs))
    return Comparison(f"training on {case.name}", "tokens/s", axis, by_hand, case.by_hand, GOAL)


def _work(case: Case, ours: list[Trained], theirs: list[Trained]) -> Comparison:
    """For information: what a step costs however long it waits."""
    axis, by_hand = (
        [run.stretch_cpu_seconds / STRETCH * 1e3 for run in runs] for runs in (ours, theirs)
    )
    what = f"processor time of a step on {case.name}, all ranks"
    return Comparison(what, "ms", axis, by_hand, case.by_hand, more_is_better=False)


def _memory(memory: dict[str, list[dict[str, int]]]) -> list[Comparison]:
    def compared(what: str, names: tuple[str, ...], goal: float | None) -> Comparison:
        fsdp4, dp4 = ([most(memory[case.name], *names) / 2**20] for case in (FSDP4, DP4))
        against = "dp4 of axis itself"
        return Comparison(f"fsdp4: {what}", "MiB", fsdp4, dp4, against, goal, more_is_better=False)

    return [
        compared("parameters, gradients and optimizer state of a rank", HELD, MEMORY_GOAL),
        compared("resident set of a rank after a step", ("resident_bytes",), None),
        compared("peak resident set of a rank", ("peak_resident_bytes",), None),
    ]


def _of(figure: str, ours: Runs, theirs: Runs) -> dict[str, dict[str, float]]:
    sides = {"axis": ours, "by_hand": theirs}
    return {
        side: {name: middle(of, figure) for name, of in runs.items()}
        for side, runs in sides.items()
    }


def _notes(memory: dict[str, list[dict[str, int]]]) -> list[str]:
    millions = memory[DP4.name][0]["num_parameters"] / 1e6
    return [
        "all ranks are processes of one machine, joined by gloo; where they are more than its "
        "cores, they take turns, and waiting for one is time for another: then a step takes what "
        "all ranks together compute",
        "a run's rate is that of its median stretch of ten steps; whole runs alternate",
        "tp is tensor parallelism with pieces of the sequence between blocks; pp2×dp2 has "
        "4 micro-batches, all others 1",
        "context and expert parallelism are left out: torch's own context parallelism has no "
        "CPU kernels, and expert parallelism would be compared with routing of one's own making",
        f"memory is that of a model of {millions:.1f} M parameters with AdamW, on the rank that "
        "has most: the storage behind parameters, gradients and state after a step; the resident "
        "set has Python and torch besides, and at its peak activations and gathered layers",
    ]
