"""Signals ask for a stop, also after somebody else has set a handler of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runtime.stopper import Stopper
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit


class _Lease:
    """Is held."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def _ends_the_process(_number: int, _frame: Any) -> None:
    raise AssertionError("Ray's handler ended the process")


def test_the_signal_is_caught_again_after_ray_has_set_its_handler(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopper = Stopper(Storage.open(str(tmp_path)), _Lease())  # type: ignore[arg-type]
    with stopper.listening():
        signal.signal(signal.SIGTERM, _ends_the_process)  # as ray.init does
        stopper.catch()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.by == "sigterm"
    assert signal.getsignal(signal.SIGTERM) == before


def test_connecting_to_ray_still_sets_a_handler() -> None:
    """The reason why the signals are caught again; without it that may go."""
    import inspect

    import ray._private.worker

    assert "set_sigterm_handler" in inspect.getsource(ray._private.worker.init)
