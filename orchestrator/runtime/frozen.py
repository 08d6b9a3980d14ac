"""Where is a worker that does not say it itself, because it is stopped or runs no Python?

A worker makes itself watchable: at a signal, Python's own fault handler writes the stacks of all
threads, without needing the interpreter, into a file that exists in memory only. Somebody on the
same node sends the signal, wakes a stopped process for it, and reads. Linux only; elsewhere such a
worker has no stack.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from orchestrator.plan.selectors import NODE_ID

_NAME = "axis-stack"
_SIGNAL = getattr(signal, "SIGUSR2", None)
"""SIGUSR1 is what batch systems send."""
_ANSWER_SECONDS = 2.0
_POLL_SECONDS = 0.05
_FRAME = re.compile(r'^ {2}File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)$')


@contextmanager
def watchable() -> Iterator[None]:
    """Inside the block, the calling thread of this process can be looked at from outside."""
    if _SIGNAL is None or not hasattr(os, "memfd_create"):
        yield
        return
    file = os.memfd_create(_NAME)
    os.write(file, f"{threading.get_ident()}\n".encode())
    faulthandler.register(_SIGNAL, file=file, all_threads=True, chain=False)
    try:
        yield
    finally:
        faulthandler.unregister(_SIGNAL)
        os.close(file)


def stack(pid: int) -> str:
    """The stack of the watchable thread of a process of this node, innermost frame last.

    Empty where the process is gone, is not ours, is not watchable, or does not answer in time. A
    stopped process goes on afterwards.
    """
    with suppress(OSError):
        found = _file(pid)
        if found is None or _SIGNAL is None:
            return ""
        before = found.stat().st_size
        os.kill(pid, _SIGNAL)
        os.kill(pid, signal.SIGCONT)
        return _shown(_written(found, before))
    return ""


def ask(node: str, pid: int, timeout_seconds: float) -> str:
    """The same for a process of another node. Empty, too, where the node does not answer."""
    answer = None
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(stack)
        answer = task.options(label_selector={NODE_ID: node}).remote(pid)
        return str(ray.get(answer, timeout=timeout_seconds))
    except ray.exceptions.RayError:
        if answer is not None:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(answer, force=True)
        return ""


def _file(pid: int) -> Path | None:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return next((link for link in links if f"memfd:{_NAME}" in str(link.readlink())), None)


def _written(file: Path, before: int) -> str:
    """The first line, and what came after ``before`` bytes, once no more comes."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    size = before
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        now = file.stat().st_size
        if now == size > before:  # it came in one go, and no more comes
            break
        size = now
    text = file.read_bytes()
    return (text[: text.find(b"\n") + 1] + text[before:]).decode(errors="replace")


def _shown(text: str) -> str:
    """The stack of the thread that the first line names, as a traceback shows it."""
    thread, _, dump = text.partition("\n")
    if not thread.isdigit():
        return ""
    head = f"hread 0x{int(thread):016x}"
    sections = re.split(r"^(?=(?:Current t|T)hread 0x)", dump, flags=re.MULTILINE)
    section = next((each for each in sections if head in each.partition("\n")[0]), "")
    frames = [_FRAME.match(line) for line in section.splitlines()]
    known = [(each["file"], int(each["line"]), each["name"], None) for each in frames if each]
    return "".join(traceback.format_list(reversed(known)))
