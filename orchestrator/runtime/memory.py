"""Was a process killed because memory ran out? Asked of the control group that it ran in.

The kernel kills without a word to anybody; but it counts, for each control group, how often. A
worker notes the count when it begins, and whoever finds it gone compares.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ray

from orchestrator.plan.selectors import NODE_ID

_ROOT = Path("/sys/fs/cgroup")
_ASK_SECONDS = 5.0


@dataclass(frozen=True)
class KillCount:
    """How often the kernel had killed in a control group, whose counter is in ``file``."""

    file: str
    count: int


def kill_count(processes: Path = Path("/proc/self/cgroup")) -> KillCount | None:
    """The count of this process's control group; ``None`` where the kernel keeps none."""
    with suppress(OSError, ValueError, IndexError):
        for line in processes.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for file in _counters(controllers, path):
                count = read_count(file)
                if count is not None:
                    return KillCount(str(file), count)
    return None


def read_count(file: Path) -> int | None:
    """The ``oom_kill`` line of a counter's file; ``None`` where there is none."""
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def was_killed_for_memory(node: str, before: KillCount) -> bool:
    """Whether the kernel has killed in that control group of a node since; ``False`` where nobody
    there answers."""
    task = ray.remote(num_cpus=0, max_retries=0)(_count_now)
    with suppress(ray.exceptions.RayError):
        now = ray.get(
            task.options(label_selector={NODE_ID: node}).remote(before.file), timeout=_ASK_SECONDS
        )
        return now is not None and now > before.count
    return False


def _count_now(file: str) -> int | None:
    return read_count(Path(file))


def _counters(controllers: str, path: str) -> list[Path]:
    """Where the counter of a control group lies: in version 2, and in version 1. A container sees
    its own group at the root, whatever the path says."""
    below = path.lstrip("/")
    if not controllers:
        return [_ROOT / below / "memory.events", _ROOT / "memory.events"]
    if "memory" in controllers.split(","):
        root = _ROOT / "memory"
        return [root / below / "memory.oom_control", root / "memory.oom_control"]
    return []
