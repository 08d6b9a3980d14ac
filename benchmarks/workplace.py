"""Where do measurements run, and what is left of them? A temporary folder, and nothing.

Everything measured runs in processes of its own, each in a session of its own, started with a
mark in the environment: whatever still carries it at the end, Ray's daemons too, is ended.
Ray's own files go into the folder as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[1]
_MARK = "AXIS_BENCHMARK_MARK"
_PATIENCE_SECONDS = 15.0
_TAIL = 4000


class MeasurementFailed(RuntimeError):
    """A process that was to be measured failed; the text is the end of what it printed."""


class Workplace:
    """A folder, an environment and the processes of one call of ``python -m benchmarks``.

    ``quick`` asks for small sizes: to see that everything works, not to measure.
    """

    def __init__(self, quick: bool = False) -> None:
        self.quick = quick
        self.folder = Path(tempfile.mkdtemp(prefix="axis-bench-"))
        self._mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen[str]] = []
        self._num_logs = 0
        self.environment = self._environment()

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            # A cluster of somebody else's, or settings meant for it, would be measured instead.
            if not name.startswith(("RAY_ADDRESS", "RAY_TRAIN_", "RAY_DATA_", "RAY_SERVE_"))
        }
        return {
            **kept,
            _MARK: self._mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(self.folder),
            # A process that connects must know the token of the cluster that another one started.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._started:
            self.stop(process)
        _sweep(self._mark)
        shutil.rmtree(self.folder, ignore_errors=True)

    def size(self, full: int, quick: int) -> int:
        """One of the two."""
        return quick if self.quick else full

    def python(self, *arguments: str, timeout_seconds: float = 300.0) -> str:
        """Run ``python <arguments>`` to its end; what it printed on standard output.

        Raises ``MeasurementFailed`` when it fails or takes too long.
        """
        process = self._start(arguments, stdin=subprocess.DEVNULL)
        try:
            out, _ = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            self.stop(process)
            raise MeasurementFailed(
                f"{_shown(arguments)} took longer than {timeout_seconds:g} s"
            ) from error
        if process.returncode != 0:
            raise MeasurementFailed(
                f"{_shown(arguments)} ended with {process.returncode}:\n{self._log(process, out)}"
            )
        self._started.remove(process)
        return out

    @contextlib.contextmanager
    def host(self, *arguments: str, timeout_seconds: float = 180.0) -> Iterator[Any]:
        """Run ``python <arguments>`` around the block; gives the one line of JSON it prints.

        It ends when its standard input does, so it also ends when this process dies.
        """
        process = self._start(arguments, stdin=subprocess.PIPE)
        try:
            yield self._first_line(process, arguments, timeout_seconds)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=60.0)
        finally:
            self.stop(process)

    @contextlib.contextmanager
    def background(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Run ``python <arguments>`` around the block, with ``environment`` beside what others
        have, and end it afterwards."""
        process = self._start(arguments, subprocess.DEVNULL, environment)
        try:
            yield process
        finally:
            self.stop(process)

    def stop(self, process: subprocess.Popen[str]) -> None:
        """End a process and its session: asked first, then made to."""
        for number, patience in ((signal.SIGTERM, _PATIENCE_SECONDS), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=patience)
                break
        if process in self._started:
            self._started.remove(process)

    def _start(
        self, arguments: Sequence[str], stdin: int, more: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.Popen[str]:
        self._num_logs += 1
        with (self.folder / f"stderr-{self._num_logs}").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**self.environment, **more},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        process.log = errors.name  # type: ignore[attr-defined]
        self._started.append(process)
        return process

    def _first_line(
        self, process: subprocess.Popen[str], arguments: Sequence[str], timeout_seconds: float
    ) -> Any:
        assert process.stdout is not None
        deadline = time.monotonic() + timeout_seconds
        timer = _Alarm(deadline - time.monotonic(), lambda: self.stop(process))
        with timer:
            for line in process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        raise MeasurementFailed(f"{_shown(arguments)} did not start:\n{self._log(process, '')}")

    def _log(self, process: subprocess.Popen[str], out: str) -> str:
        errors = Path(process.log).read_text(errors="replace")  # type: ignore[attr-defined]
        return f"{out[-_TAIL:]}\n{errors[-_TAIL:]}"


class _Alarm:
    """Calls ``act`` after so many seconds, unless the block ends before."""

    def __init__(self, seconds: float, act: Any) -> None:
        import threading

        self._timer = threading.Timer(seconds, act)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    """One line about how it is going, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def _shown(arguments: Sequence[str]) -> str:
    return "python " + " ".join(arguments[:3])


def _sweep(mark: str) -> None:
    """End what was started under the mark and is still there; Ray's daemons go by themselves."""
    deadline = time.monotonic() + 5.0
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(_MARK) == mark:
                found.append(process)
    return found
