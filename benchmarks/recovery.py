"""How long from a loss to the next finished step?

``axis run`` beside elastic Ray Train and, for a lost worker, ``torchrun --max-restarts``, with the
same model, store, batch and interval between checkpoints, on clusters of several raylets. A worker
is lost by SIGKILL, a node by SIGKILL of its raylet and everything below it. The group has stepped
for a while before, so that whatever is kept warm is warm: under ``axis run`` a process for each
worker, which takes long to import everything where four workers have two cores.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.by_hand.elastic_loop import Settings
from benchmarks.comparison import Comparison, Outcome
from benchmarks.runs import prepared, training_plan, write_plan
from benchmarks.training import in_turn
from benchmarks.workplace import MeasurementFailed, Workplace, say

OPTIONS = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 176, "seq_len": 128}
GLOBAL_BATCH = 16
SAVE_EVERY = 50
FEWEST, MOST = 2, 4
NODES = ("2", "2")
"""CPUs of the head and of the node that is lost."""
WORKER_GOAL, NODE_GOAL, TORCHRUN_GOAL = 0.4, 0.15, 1.0
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Without it torchrun's agent keeps one store for all its restarts, and a gloo group that is begun
again reads the addresses of the one before: not back within 100 s in any of three runs."""
AXIS, RAY_TRAIN, TORCHRUN = "axis", "ray_train", "torchrun"

Records = Callable[[], list[dict[str, Any]]]


def measure(place: Workplace) -> Outcome:
    """Seconds from the kill to the next finished step."""
    repetitions = place.size(3, 1)
    warm = {AXIS: place.size(60, 15), RAY_TRAIN: 15, TORCHRUN: 15}
    store = str(prepared(place, "gpt-stdlib").store)
    took: dict[str, dict[str, list[float]]] = {
        "worker": {AXIS: [], RAY_TRAIN: [], TORCHRUN: []},
        "node": {AXIS: [], RAY_TRAIN: []},
    }
    for turn in range(repetitions):
        say(f"repetition {turn + 1} of {repetitions}")
        for fault, series in took.items():
            for name in in_turn(list(series), turn):
                case = _Case(place, store, fault, f"{name}-{fault}-{turn}", warm[name])
                series[name].append(case.seconds(name))
                say(f"{name}, {fault} lost: back after {series[name][-1]:.2f} s")
    return Outcome(
        "Back to work: from a loss to the next finished step, 4 workers on 2 raylets",
        [
            _compared("worker lost", took["worker"], RAY_TRAIN, WORKER_GOAL),
            _compared("worker lost", took["worker"], TORCHRUN, TORCHRUN_GOAL),
            _compared("node lost", took["node"], RAY_TRAIN, NODE_GOAL),
        ],
        settings={
            "options": OPTIONS, "global_batch": GLOBAL_BATCH, "save_every": SAVE_EVERY,
            "workers": [FEWEST, MOST], "warm_seconds": warm,
        },
        notes=[
            "from the signal to the first step that is finished by the group that comes after",
            "Ray Train: num_workers=(2, 4), RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.2",
        ],
    )  # fmt: skip


def _compared(what: str, series: dict[str, list[float]], against: str, goal: float) -> Comparison:
    shown = {RAY_TRAIN: "elastic Ray Train", TORCHRUN: "torchrun --max-restarts"}[against]
    return Comparison(what, "s", series[AXIS], series[against], shown, goal, False)


class _Case:
    """One loss under one of the contenders."""

    def __init__(
        self, place: Workplace, store: str, fault: str, name: str, warm_seconds: float
    ) -> None:
        self.place, self.store, self.fault, self.name = place, store, fault, name
        self.warm_seconds = warm_seconds
        self.folder = place.folder / name
        self.folder.mkdir()

    def seconds(self, contender: str) -> float:
        """Carry it out."""
        if contender == TORCHRUN:
            program = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={MOST}"]
            program += ["--max-restarts=10", "benchmarks/by_hand/torchrun_elastic.py"]
            return self._lose([*program, self._settings()], self._trace, None, **OWN_STORE)
        with self.place.host("-m", "benchmarks.raylets", *NODES) as cluster:
            raylet = cluster["raylets"][1]
            if contender == AXIS:
                plan = str(write_plan(self.place, self._plan()))
                command = ["-m", "orchestrator.cli", "run", plan, "--address", cluster["address"]]
                return self._lose(command, self._metrics, raylet)
            command = ["-m", "benchmarks.by_hand.ray_train_elastic", self._settings()]
            command += [str(self.folder), cluster["address"], str(FEWEST), str(MOST)]
            return self._lose(command, self._trace, raylet)

    def _lose(
        self, command: list[str], records: Records, raylet: int | None, **environment: str
    ) -> float:
        with self.place.background(*command, **environment) as process:

            def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
                deadline = time.monotonic() + seconds
                while not (found := condition()):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise MeasurementFailed(f"{self.name}: in vain waited for {what}")
                    time.sleep(0.02)
                return found

            until(lambda: _steps(records()), 120, "the first step")
            until(_after(self.warm_seconds), self.warm_seconds + 5, "some time to pass")
            before = len(records())
            killed_at = time.time()
            if self.fault == "node" and raylet is not None:
                _kill_node(raylet)
            else:
                os.kill(_worker(records(), 1), signal.SIGKILL)
            step = until(lambda: _first_after(records()[before:]), 240, "the next step")
            return float(step["at_seconds"]) - killed_at

    def _settings(self) -> str:
        settings = Settings(
            store=self.store, folder=str(self.folder), options=OPTIONS,
            global_batch=GLOBAL_BATCH, save_every=SAVE_EVERY, lr=1e-3,
        )  # fmt: skip
        return settings.write(self.folder / "settings.json")

    def _plan(self) -> dict[str, Any]:
        plan = training_plan(self.place, "gpt-stdlib", self.name, 1_000_000)
        plan["options"] = OPTIONS
        plan["coordination"] |= {"checkpoint": {"every": SAVE_EVERY}, "standby_after": "10s"}
        plan["training"] |= {
            "workers": [FEWEST, MOST], "resources": {"cpu": 1}, "global_batch": GLOBAL_BATCH,
        }  # fmt: skip
        return plan

    def _trace(self) -> list[dict[str, Any]]:
        return _lines(self.folder / "trace.jsonl")

    def _metrics(self) -> list[dict[str, Any]]:
        folder = self.place.folder / "runs" / self.name / "metrics"
        return [line for path in sorted(folder.glob("*.jsonl")) for line in _lines(path)]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def _steps(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == "step"]


def _worker(records: list[dict[str, Any]], rank: int) -> int:
    found = [r["pid"] for r in records if r["kind"] == "worker" and r["rank"] == rank]
    return int(found[-1])


def _first_after(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first step of a group that began after the loss: survivors may still finish one."""
    begun = next((i for i, r in enumerate(records) if r["kind"] == "worker"), None)
    return None if begun is None else next(iter(_steps(records[begun:])), None)


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _kill_node(raylet: int) -> None:
    process = psutil.Process(raylet)
    for each in [*process.children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
