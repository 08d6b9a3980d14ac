"""How is the real ``axis run`` carried out, and what did it write about itself?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from benchmarks.workplace import ROOT, Workplace, say

PREPARING_STEPS = 20


@dataclass(frozen=True)
class Run:
    """A finished run, by its folder."""

    folder: Path

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """What its journal says, in order."""
        lines = (self.folder / "journal" / "attempt-0001.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]

    def event(self, kind: str) -> dict[str, Any]:
        """The first event of a kind."""
        return next(event for event in self.events if event["kind"] == kind)

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """The records of its steps, in order."""
        lines = (self.folder / "metrics" / "attempt-0001.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["kind"] == "step"]

    @property
    def step_times(self) -> list[float]:
        """When each step was finished, in seconds of the wall clock."""
        return [record["at_seconds"] for record in self.steps]

    @property
    def store(self) -> Path:
        """The folder of its sample store."""
        return Path(self.event("store-ready")["store"]["folder"].removeprefix("file://"))

    @property
    def checkpoint(self) -> str:
        """Its last checkpoint, relative to the run."""
        committed = [e for e in self.events if e["kind"] == "checkpoint-committed"]
        return str(committed[-1]["checkpoint"]["folder"])


def load_config(name: str) -> dict[str, Any]:
    """A plan from ``configs/``, as plain values."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    return config


def training_plan(place: Workplace, config: str, name: str, steps: int) -> dict[str, Any]:
    """The plan of ``config`` as it trains here: no serving, no evaluation, one last checkpoint."""
    plan = load_config(config)
    training = {**plan["training"], "steps": steps, "evaluate": {"samples": 0}}
    coordination = {**plan.get("coordination", {}), "checkpoint": {"every": steps}}
    del plan["inference"]
    return {
        **plan,
        "name": name,
        "storage": str(place.folder / "runs"),
        "training": training,
        "coordination": coordination,
    }


def write_plan(place: Workplace, plan: dict[str, Any]) -> Path:
    """The plan as a file."""
    path = place.folder / f"{plan['name']}.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def axis_run(place: Workplace, plan: dict[str, Any], *options: str) -> Run:
    """``axis run`` of the plan, to its end."""
    path = write_plan(place, plan)
    place.python("-m", "orchestrator.cli", "run", str(path), *options)
    return Run(place.folder / "runs" / plan["name"])


def prepared(place: Workplace, config: str) -> Run:
    """A short run of the config: its sample store and one checkpoint; made once, then found."""
    run = Run(place.folder / "runs" / f"prepared-{config}")
    if not run.folder.exists():
        say(f"preparing: axis run configs/{config}.yaml for {PREPARING_STEPS} steps")
        plan = training_plan(place, config, run.folder.name, PREPARING_STEPS)
        axis_run(place, plan)
    return run
