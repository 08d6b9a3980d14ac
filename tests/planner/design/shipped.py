"""The workloads that are shipped, and short ways to design one."""

from __future__ import annotations

from pathlib import Path

from orchestrator.planner.design import Design, LoadedWorkload, design, parse_workload

FOLDER = Path(__file__).resolve().parents[3] / "configs" / "workloads"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def loaded(name: str, *overrides: str) -> LoadedWorkload:
    """A shipped workload, with overrides."""
    path = FOLDER / f"{name}.yaml"
    return parse_workload(path.read_text(encoding="utf-8"), overrides, path.name)


def designed(name: str, *overrides: str) -> Design:
    """The design of a shipped workload."""
    return design(loaded(name, *overrides).workload)


def designed_from(text: str, *overrides: str) -> Design:
    """The design of a workload written here."""
    return design(parse_workload(text, overrides).workload)
