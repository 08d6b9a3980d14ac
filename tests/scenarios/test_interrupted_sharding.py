"""Ctrl-C while data tasks run: quick, nothing half-written is taken, and the run resumes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.axis_command import PATIENCE_SECONDS, Axis, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

SLOW_JOB = '''
import time
from pathlib import Path

from jobs.digits import Digits


class Slow(Digits):
    """Takes a second a row until told otherwise."""

    def samples(self, row):
        Path("sharding").touch()
        if not Path("hurry").exists():
            time.sleep(1.0)
        yield from super().samples(row)
'''


def test_an_interrupt_does_not_wait_for_a_long_shard(axis: Axis, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "slow.py").write_text(SLOW_JOB)
    plan = (axis.cwd / "configs/digits.yaml").read_text()
    (project / "plan.yaml").write_text(plan.replace("jobs.digits:Digits", "slow:Slow"))
    axis.environment["PYTHONPATH"] = str(axis.cwd)
    axis.cwd = project
    command = ("run", "plan.yaml", f"storage={axis.storage}", "inference=null", "training.steps=3")

    running = axis.start(*command)
    wait_until(lambda: (project / "sharding").exists(), PATIENCE_SECONDS, "the first data task")
    os.kill(running.pid, signal.SIGINT)
    began = time.monotonic()
    stopped = axis.finish(running)
    assert stopped.code == 130, stopped
    assert time.monotonic() - began < 45
    assert not list((axis.storage / "_stores").glob("*/store.json"))

    (project / "hurry").touch()
    done = axis(*command)
    assert done.code == 0, done
    store = axis.events("digits", "store-ready")[-1]["store"]
    assert (store["num_samples"], store["reused"]) == (1797, False)
