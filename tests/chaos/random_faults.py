"""Ten minutes of random faults on one run: ``make chaos``, or with a seed of one's own
``python -m tests.chaos.random_faults --seed 7 --minutes 10``.

A run trains on three raylets while one fault after another is injected, each with its own way to
see that it fired. After each is measured how long it took until the group that came after had
finished a step; where none has to come, how long the run paused at most. In the end the run is
finished without faults, and its samples and losses are held against those of an undisturbed one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from tests.axis_command import Axis, left_behind, wait_until
from tests.chaos.several_raylets import Raylets, raylets
from tests.chaos.test_histories import COMMON, assert_undisturbed

BACK_SECONDS = 180.0
"""A run that is not back at work by then has not survived."""
RIDDEN_SECONDS = 8.0
"""What costs no restart is looked at for so long."""
QUIET_SECONDS = (3.0, 12.0)
"""Between being back at work and the next fault."""
SLOW_LEARNING = "training.optimizer.lr=1e-5"
"""Tens of thousands of steps amplify rounding, by which three workers differ from one, else."""


@dataclass
class Outcome:
    """One fault, and how long after it the run was back at work."""

    fault: str
    seconds: float


@dataclass
class Bench:
    """The run, its cluster, and what can be done to them."""

    axis: Axis
    cluster: Raylets
    rng: random.Random
    nodes: list[Any] = field(default_factory=list)
    process: Any = None

    def start(self, steps: int = 1_000_000) -> None:
        """Start the driver, or start it again."""
        self.process = self.axis.start(
            "run", *COMMON, SLOW_LEARNING, "job=tests.chaos.paced:Paced",
            f"storage={self.axis.storage}",
            f"training.steps={steps}", "coordination.checkpoint.every=100",
            "training.workers=[1, 3]", "training.resources.cpu=1", "data.tasks=1",
            "coordination.hang_timeout=5s", "coordination.regrow_after=5s",
            "coordination.restarts={worker: -1, node: -1, hang: -1}",
            "--address", self.cluster.address,
        )  # fmt: skip

    def newest(self) -> dict[str, Any] | None:
        """The furthest step so far."""
        steps = [r for r in self.axis.metrics("digits") if r["kind"] == "step"]
        return max(steps, key=lambda r: r["step"]) if steps else None

    def steps(self, since: float, attempt: int = 0) -> list[dict[str, Any]]:
        """What was finished since then, by this attempt or later ones, in order of time."""
        found = [r for r in self.axis.metrics("digits") if r["kind"] == "step"]
        found = [r for r in found if r["at_seconds"] > since and r["attempt"] >= attempt]
        return sorted(found, key=lambda record: record["at_seconds"])

    def workers(self) -> list[dict[str, Any]]:
        """The workers of the present attempt."""
        seats = [r for r in self.axis.metrics("digits") if r["kind"] == "worker"]
        last = max(seat["attempt"] for seat in seats)
        return [seat for seat in seats if seat["attempt"] == last]

    def kill_worker(self) -> None:
        """SIGKILL."""
        os.kill(self.rng.choice(self.workers())["pid"], signal.SIGKILL)

    def stop_worker(self) -> None:
        """SIGSTOP: it says nothing any more, and does not die."""
        os.kill(self.rng.choice(self.workers())["pid"], signal.SIGSTOP)

    def kill_node(self) -> None:
        """A raylet that has workers, and all of them; another node comes in its place."""
        busy = {seat["node"] for seat in self.workers()}
        lost = self.rng.choice([node for node in self.nodes if node.node_id in busy])
        self.nodes.remove(lost)
        self.cluster.kill(lost)
        self.nodes.append(self.cluster.add(num_cpus=1))

    def kill_coordinator(self) -> None:
        """Ray starts it again."""
        found = [
            p for p in psutil.process_iter(["cmdline"])
            if p.info["cmdline"] and "ray::Coordinator" in p.info["cmdline"][0]
        ]  # fmt: skip
        assert found, "a coordinator to kill"
        found[0].kill()

    def kill_driver(self) -> None:
        """The same command is given again."""
        self.process.kill()
        self.process.wait()
        time.sleep(1.0)
        self.start()

    def damage_checkpoint(self) -> None:
        """A bit of the newest one is flipped, and a worker killed, so that it is wanted."""
        folders = sorted((self.axis.storage / "digits" / "checkpoints").iterdir())
        whole = [each for each in folders if (each / "manifest.json").exists()]
        if len(whole) > 1:
            file = next(whole[-1].glob("*.distcp"))
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(bytes(data))
        self.kill_worker()


FAULTS: tuple[Callable[[Bench], None], ...] = (
    Bench.kill_worker,
    Bench.kill_worker,
    Bench.stop_worker,
    Bench.kill_node,
    Bench.kill_coordinator,
    Bench.kill_driver,
    Bench.damage_checkpoint,
)


def inject(bench: Bench, fault: Callable[[Bench], None]) -> Outcome:
    """One fault; returns when the run is back at work."""
    attempt = max(seat["attempt"] for seat in bench.workers())
    began = time.time()
    fault(bench)
    what = f"the run to be back after {fault.__name__}"
    if fault is Bench.kill_coordinator:
        wait_until(lambda: bench.steps(began + RIDDEN_SECONDS) != [], BACK_SECONDS, what)
        times = [began, *(step["at_seconds"] for step in bench.steps(began))]
        return Outcome(fault.__name__, max(b - a for a, b in pairwise(times)))
    # Steps that were under way may still be finished: those of the group that comes after count.
    wait_until(lambda: bench.steps(began, attempt + 1) != [], BACK_SECONDS, what)
    return Outcome(fault.__name__, bench.steps(began, attempt + 1)[0]["at_seconds"] - began)


def main() -> int:
    """Inject, measure, finish, compare; the exit code is 0 when all was survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=10.0)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    mark = f"random-faults-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder, raylets(num_cpus=1) as cluster:
        axis = Axis(Path(folder) / "runs", mark)
        bench = Bench(axis, cluster, random.Random(chosen.seed))
        try:
            outcomes = _run(bench, 60.0 * chosen.minutes)
            _finish(bench)
        finally:
            for process in axis.started:
                if process.poll() is None:
                    process.kill()
            for process in left_behind(mark, patience_seconds=10):
                process.kill()
    _tell(outcomes)
    return 0


def _run(bench: Bench, seconds: float) -> list[Outcome]:
    bench.nodes = [bench.cluster.add(num_cpus=1) for _ in range(2)]
    bench.start()
    bench.axis.await_step("digits", 50)
    until, outcomes = time.monotonic() + seconds, list[Outcome]()
    while time.monotonic() < until:
        outcomes.append(inject(bench, bench.rng.choice(FAULTS)))
        print(f"  {outcomes[-1].fault:<20} back at work after {outcomes[-1].seconds:5.1f} s",
              flush=True)  # fmt: skip
        time.sleep(bench.rng.uniform(*QUIET_SECONDS))
    return outcomes


def _finish(bench: Bench) -> None:
    """No more faults: the run comes to its end, and is what it would have been without them."""
    stopped = bench.axis("stop", "digits", "--storage", str(bench.axis.storage))
    assert stopped.code == 0, stopped
    ended = bench.axis.finish(bench.process)
    assert ended.code == 6, ended
    newest = bench.newest()
    assert newest is not None
    steps = newest["step"] + 50
    bench.start(steps)
    done = bench.axis.finish(bench.process)
    assert done.code == 0, done
    assert_undisturbed(bench.axis, steps, SLOW_LEARNING)


def _tell(outcomes: list[Outcome]) -> None:
    print(f"\n{len(outcomes)} faults injected, {len(outcomes)} survived; every sample once")
    print(f"{'fault':<20} {'times':>5} {'mean':>7} {'worst':>7}")
    for name in sorted({outcome.fault for outcome in outcomes}):
        seconds = [outcome.seconds for outcome in outcomes if outcome.fault == name]
        print(
            f"{name:<20} {len(seconds):>5} {statistics.mean(seconds):>6.1f}s {max(seconds):>6.1f}s"
        )
    every = [outcome.seconds for outcome in outcomes]
    print(f"{'all':<20} {len(every):>5} {statistics.mean(every):>6.1f}s {max(every):>6.1f}s")


if __name__ == "__main__":
    sys.exit(main())
