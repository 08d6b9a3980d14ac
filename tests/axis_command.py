"""Runs the real ``axis`` command in processes of its own, and finds what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
MARK = "AXIS_TEST_MARK"

PATIENCE_SECONDS = 240.0
"""What a command or a step may take before a test gives up, on a machine with much else to do."""


class Axis:
    """The command line, run from a working directory with a storage of its own."""

    def __init__(self, storage: Path, mark: str) -> None:
        self.storage = storage
        self.cwd = ROOT
        self.environment = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1"}
        self.prefix: list[str] = []
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, as a terminal would."""
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "orchestrator.cli", *arguments],
            cwd=self.cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], timeout: float = PATIENCE_SECONDS) -> Finished:
        """Wait for a command and collect what it printed."""
        out, err = process.communicate(timeout=timeout)
        return Finished(process.returncode, out, err)

    def __call__(self, *arguments: str, timeout: float = PATIENCE_SECONDS) -> Finished:
        """Run a command to its end."""
        return self.finish(self.start(*arguments), timeout)

    def metrics(self, run: str) -> list[dict[str, Any]]:
        """All records that the workers of a run sent, in order, with their attempt."""
        records = []
        for path in sorted((self.storage / run / "metrics").glob("attempt-*.jsonl")):
            attempt = int(path.stem.split("-")[1])
            for line in path.read_text().splitlines():
                if line.strip() and line.endswith("}"):
                    records.append({**json.loads(line), "attempt": attempt})
        return records

    def events(self, run: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The events in a run's journal."""
        found = []
        for path in sorted((self.storage / run / "journal").glob("attempt-*.jsonl")):
            found += [json.loads(line)["event"] for line in path.read_text().splitlines()]
        return [event for event in found if kind is None or event["kind"] == kind]

    def await_step(self, run: str, step: int, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until a run has reported so many steps."""

        process = self.started[-1]

        def reached() -> bool:
            assert process.poll() is None, self.finish(process)
            if not (self.storage / run / "metrics").exists():
                return False
            return any(r["kind"] == "step" and r["step"] >= step for r in self.metrics(run))

        wait_until(reached, timeout, f"{run} to reach step {step}")

    def computed_ids(self, run: str) -> dict[int, list[int]]:
        """Step → ids of the samples that count: those of the attempt that had the last word."""
        last = {}
        for record in self.metrics(run):
            if record["kind"] == "samples":
                key = record["step"]
                attempt = last.get(key, (0, {}))[0]
                ranks = last[key][1] if attempt == record["attempt"] else {}
                last[key] = (record["attempt"], {**ranks, record["rank"]: record["ids"]})
        return {
            step: [i for rank in sorted(ranks) for i in ranks[rank]]
            for step, (_, ranks) in last.items()
        }


class Finished:
    """What a command came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Poll until the condition holds; fail saying what was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.1)


def assert_exactly_once(ids: dict[int, list[int]], num_train: int, steps: int, batch: int) -> None:
    """Every step has a whole batch, and each epoch every training sample exactly once."""
    assert sorted(ids) == list(range(1, steps + 1))
    stream = [i for step in range(1, steps + 1) for i in ids[step]]
    assert len(stream) == steps * batch
    for start in range(0, len(stream), num_train):
        epoch = Counter(stream[start : start + num_train])
        assert set(epoch.values()) == {1}, f"a sample repeats in the epoch at {start}"
    if len(stream) >= 2 * num_train:
        first, second = set(stream[:num_train]), set(stream[num_train : 2 * num_train])
        assert first == second, "two whole epochs must hold the same samples"


def left_behind(mark: str, patience_seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + patience_seconds
    while True:
        left = [process for process in psutil.process_iter() if _has_mark(process, mark)]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.2)


def name_of(process: psutil.Process) -> str:
    """What runs there, who started it, and since when."""
    try:
        words = " ".join(process.cmdline())[:120] or process.name()
        return f"{process.pid} of {process.ppid()}, {process.status()}: {words}"
    except psutil.NoSuchProcess:
        return f"{process.pid}, gone by now"


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get(MARK) == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
