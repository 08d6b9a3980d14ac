"""Processes that cannot say where they are, looked at from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from orchestrator.runtime.frozen import stack

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

PROGRAM = """
import contextlib, ctypes, sys, threading, time
from orchestrator.runtime.frozen import watchable

def in_python():
    print("there", flush=True)
    while True:
        time.sleep(0.05)  # in Python

def in_c():
    print("there", flush=True)
    ctypes.PyDLL(None).sleep(60)  # holds the interpreter

def work(what, how):
    with how():
        what()

how = watchable if sys.argv[2] == "watchable" else contextlib.nullcontext
threading.Thread(target=work, args=(globals()[sys.argv[1]], how)).start()
"""


@contextmanager
def program(*arguments: str) -> Iterator[int]:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        time.sleep(0.1)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_stopped_process_shows_the_stack_of_its_thread() -> None:
    with program("in_python", "watchable") as pid:
        os.kill(pid, signal.SIGSTOP)
        found = stack(pid)
        again = stack(pid)
    assert "in work" in found
    assert found.splitlines()[-1].endswith("in in_python"), "innermost frame last"
    assert again.count("in in_python") == 1, "and nothing of the time before"


def test_so_does_one_in_which_no_python_runs() -> None:
    with program("in_c", "watchable") as pid:
        assert stack(pid).splitlines()[-1].endswith("in in_c")


def test_a_process_that_is_not_watchable_is_left_alone() -> None:
    with program("in_python", "nothing") as pid:
        assert stack(pid) == ""
        time.sleep(0.2)
        assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE, "the signal would end it"
    assert stack(pid) == "", "it is gone"
