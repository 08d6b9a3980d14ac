"""A worker that takes too long says where it is, and so do those that wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from gloo_gang import Gang
from slow_cases import Slow, slow_case
from small_runs import DIGITS, MemoryChannel, Stores

from orchestrator.parallel.watchdog import Watchdog, is_waiting
from orchestrator.storage import Storage

NewRun = Callable[[], str]
HANGS = ("coordination.hang_timeout=2500ms", "training.steps=6", "training.evaluate.samples=0")
ALONE = (*HANGS, "training.workers=1", "training.micro_batch=16")
ROOT = Path(__file__).parents[2]


def line_of(mark: str) -> int:
    text = Path(__file__).with_name("slow_cases.py").read_text().splitlines()
    return 1 + next(number for number, line in enumerate(text) if mark in line)


@pytest.mark.unit
def test_a_slow_step_is_told_once_with_phase_and_line(stores: Stores, new_run: NewRun) -> None:
    (report,) = slow_case(DIGITS, ALONE, stores.digits, new_run(), Slow(3, 5.0))
    assert (report["rank"], report["pid"]) == (0, os.getpid())
    assert (report["what"], report["phase"]) == ("step 3", "forward and backward")
    assert 2.5 < report["seconds"] < 5.0
    assert report["where"].endswith(f"slow_cases.py:{line_of('takes its time')} in _sleep")
    assert "time.sleep(self.seconds)  # takes its time here" in report["stack"]
    assert not report["waiting"]


@pytest.mark.unit
def test_the_first_step_has_the_start_s_deadline(stores: Stores, new_run: NewRun) -> None:
    late = (*ALONE, "coordination.start_timeout=60s")
    assert slow_case(DIGITS, late, stores.digits, new_run(), Slow(1, 4.0)) == []
    early = (*ALONE, "coordination.start_timeout=1s")
    (report,) = slow_case(DIGITS, early, stores.digits, new_run(), Slow(1, 5.0))
    assert report["what"] == "step 1"


@pytest.mark.unit
def test_an_evaluation_has_a_deadline_of_its_own(stores: Stores, new_run: NewRun) -> None:
    overrides = (*ALONE, "training.evaluate.samples=8", "coordination.checkpoint.every=4")
    (report,) = slow_case(DIGITS, overrides, stores.digits, new_run(), Slow(4, 5.0, "metrics"))
    assert report["what"] == "the evaluation after step 4"


@pytest.mark.gloo
def test_those_that_wait_are_told_apart_from_the_one_they_wait_for(
    gang: Gang, stores: Stores, new_run: NewRun
) -> None:
    overrides = (*HANGS, "training.workers=2", "training.micro_batch=4")
    waits, works = gang.run(
        "slow_cases:slow_case", 2, DIGITS, overrides, stores.digits, new_run(), Slow(4, 6.0)
    )
    (waits,), (works,) = waits, works
    assert waits["what"] == works["what"] == "step 2"
    assert waits["progress"] >= works["progress"]
    assert waits["waiting"]
    assert not works["waiting"]
    assert "slow_cases.py" in works["where"]


@pytest.mark.unit
def test_who_is_asked_says_where_it_is_though_nothing_is_late(
    stores: Stores, new_run: NewRun
) -> None:
    overrides = (*ALONE, "coordination.hang_timeout=100s")
    (report,) = slow_case(DIGITS, overrides, stores.digits, new_run(), Slow(3, 2.0), True)
    assert report["seconds"] < 100


@pytest.mark.unit
def test_progress_is_a_number_that_all_workers_share() -> None:
    channel = MemoryChannel(Storage.open("unused"))
    watch = Watchdog(2, channel, 10.0, 10.0)
    watch.begin("step 1")
    watch.enter("waiting for samples")
    watch.enter("forward and backward", lambda: 3)
    report = watch.report()
    assert (report.rank, report.progress, report.micro_batches) == (2, 3, 3)
    watch.rest()
    assert watch.report().what == ""


@pytest.mark.unit
def test_a_stack_in_the_job_s_code_is_work() -> None:
    assert not is_waiting(sys._getframe())
    assert not is_waiting(None)


@pytest.mark.gloo
def test_without_a_coordinator_the_process_says_where_it_hangs_and_ends(
    stores: Stores, tmp_path: Path
) -> None:
    """Nobody would restart it otherwise: ``torchrun`` sees exit code 1."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        DIGITS.replace("jobs.digits:Digits", "slow_cases:Slow").replace(
            "{channels: 8}", "{at: 3, seconds: 1000.0}"
        )
    )
    command = [sys.executable, "-m", "orchestrator.parallel", str(plan), "--store", stores.digits,
               "--run-dir", str(tmp_path / "run"), *ALONE]  # fmt: skip
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "has been at step 3 for" in done.stderr
    assert "time.sleep(self.seconds)  # takes its time here" in done.stderr
    assert "coordination.hang_timeout" in done.stderr
