"""What every test may use, and what none may leave behind."""

from __future__ import annotations

import os
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.axis_command import Axis, left_behind, name_of

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def axis(tmp_path: Path) -> Iterator[Axis]:
    """The command line; afterwards no process that it started may be left."""
    mark = uuid.uuid4().hex
    command = Axis(tmp_path / "runs", mark)
    yield command
    for process in command.started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    left = left_behind(mark, patience_seconds=45)
    names = [name_of(process) for process in left]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert not left, f"left behind: {names}"
