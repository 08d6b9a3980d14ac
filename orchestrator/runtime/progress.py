"""What of a run's going-on is worth showing? Turns states and records into display calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.coordinator.state import RunState
from orchestrator.observe.display import Display
from orchestrator.observe.wording import counted
from orchestrator.plan.plan import Plan
from orchestrator.runtime.sharding import Progress

_WAITS = {"reserving": "reserve", "deploying": "deploy", "ending": "release"}
"""Phases that are waited for, and what the display calls them."""

_TOLD = frozenset(
    {
        "cadence",
        "skipped",
        "rolled-back",
        "not-written",
        "hang",
        "queued",
        "resize",
        "straggler",
        "misplaced",
        "watch",
    }
)
"""Kinds of records that are told as they are."""

_STEPPING = frozenset({"training", "stopping"})


class ProgressView:
    """Follows one run and tells the display about it."""

    def __init__(self, display: Display, plan: Plan) -> None:
        self._display = display
        self._plan = plan
        self._open = ""
        self._counting_shards = False
        self._step = 0

    def say(self, text: str) -> None:
        """One line for the person."""
        self._display.line(text)

    def show_state(self, before: RunState, now: RunState) -> None:
        """Show what changed between two states."""
        if now.store is not None and now.store_ready and not before.store_ready:
            self._store(now)
        known = {record.folder for record in before.committed}
        for record in now.committed:
            if record.folder not in known and before.phase != "new":
                self._committed(record.step, record.metrics)
        if now.attempt != before.attempt and (now.recovering or now.resize):
            why = f"after a loss ({now.recovering})" if now.recovering else _resized(now)
            self.say(f"attempt {now.attempt}: restarting from step {now.committed_step} {why}")
        if now.placement and now.gang == "held" and before.gang != "held":
            self.say(f"mesh: {now.placement}")
        if now.phase != before.phase:
            self._phase(before, now)

    def show_sharding(self, progress: Progress) -> None:
        """Show how far sharding is."""
        if self._open != "shard":
            return
        if not self._counting_shards:
            self._counting_shards = True
            self._display.begin("shard", progress.total, "shards")
        read = f"{progress.num_bytes / 1e6:.1f} MB read" if progress.num_bytes else ""
        self._display.advance("shard", progress.done, read)

    def show_records(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Show the step records that came in."""
        for record in records:
            self._display.event(record)
            if record.get("kind") in _TOLD:
                self.say("\n".join(filter(None, [record["text"], record.get("stack")])))
            if record.get("kind") == "started" and self._open == "train":
                # From here on steps are counted: that workers had to start is not their rate.
                self._begin("train", self._plan.training.steps, "steps", int(record["step"]))
        steps = [record for record in records if record.get("kind") == "step"]
        if steps:
            last = steps[-1]
            self._step = int(last["step"])
            self._display.advance("train", self._step, f"loss {last['loss']:.4f}")

    def close(self) -> None:
        """Finish what is still open."""
        self._finish()

    def _begin(self, phase: str, total: int = 0, unit: str = "", done: int = 0) -> None:
        self._open = phase
        self._counting_shards = False
        self._display.begin(phase, total, unit, done)

    def _finish(self, note: str = "") -> None:
        if self._open:
            self._display.finish(self._open, note)
            self._open = ""

    def _phase(self, before: RunState, now: RunState) -> None:
        self._display.event({"kind": "phase-change", "from": before.phase, "to": now.phase})
        if now.phase == "stopping" and before.phase == "training":
            return  # who asked for it, and what is waited for, was said when it was asked
        if before.phase in _STEPPING and now.phase in _STEPPING:
            return
        if self._open == "train":
            # The last steps' records may still be on their way when their checkpoint is there.
            self._display.advance("train", max(self._step, now.committed_step))
        self._finish()
        if now.phase == "sharding":
            self._begin("shard")
        elif now.phase == "training":
            self._begin("train", self._plan.training.steps, "steps", now.committed_step)
            starting = f"starting {counted(now.workers, 'worker')}"
            self._display.advance("train", now.committed_step, starting)
        elif now.phase in _WAITS:
            self._begin(_WAITS[now.phase])
        elif now.phase == "serving" and now.url:
            self.say(f"serving step {now.promoted.step if now.promoted else '?'} at {now.url}")

    def _committed(self, step: int, metrics: Mapping[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.say(f"checkpoint: step {step}" + (f", {text}" if text else ""))

    def _store(self, now: RunState) -> None:
        store = now.store
        assert store is not None
        found = "found from before: " if store.reused else ""
        bad = ""
        if store.num_bad_files:
            bad = f"; {counted(store.num_bad_files, 'file')} could not be read"
        self._finish(f"{found}{counted(store.num_samples, 'sample')}{bad}")


def _resized(now: RunState) -> str:
    assert now.resize is not None
    return f"to {now.resize.kind} ({now.resize.note})"
