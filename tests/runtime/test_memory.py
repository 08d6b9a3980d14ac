from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.runtime import memory
from orchestrator.runtime.memory import KillCount, kill_count, read_count

pytestmark = pytest.mark.unit


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_ROOT", tmp_path / "cgroup")
    return tmp_path / "cgroup"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_version_2_counts_in_memory_events(root: Path, tmp_path: Path) -> None:
    processes = write(tmp_path / "self", "0::/kubepods/pod1\n")
    file = write(root / "kubepods/pod1/memory.events", "low 0\noom 3\noom_kill 2\n")
    assert kill_count(processes) == KillCount(str(file), 2)


def test_a_container_sees_its_own_group_at_the_root(root: Path, tmp_path: Path) -> None:
    processes = write(tmp_path / "self", "0::/../../elsewhere\n")
    file = write(root / "memory.events", "oom_kill 0\n")
    assert kill_count(processes) == KillCount(str(file), 0)


def test_version_1_counts_in_memory_oom_control(root: Path, tmp_path: Path) -> None:
    processes = write(tmp_path / "self", "9:cpu:/x\n4:memory:/run/one\n0::/\n")
    file = write(root / "memory/run/one/memory.oom_control", "under_oom 0\noom_kill 7\n")
    assert kill_count(processes) == KillCount(str(file), 7)
    write(file, "under_oom 0\noom_kill 8\n")
    assert read_count(file) == 8


def test_where_nothing_is_counted_nothing_is_known(root: Path, tmp_path: Path) -> None:
    assert kill_count(write(tmp_path / "self", "1:cpu:/\n")) is None
    assert kill_count(tmp_path / "missing") is None
    assert read_count(root / "missing") is None
