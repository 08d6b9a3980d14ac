"""What of a run's going-on is worth showing? Turns states and records into display calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.coordinator.state import RunState
from orchestrator.observe.display import Display
from orchestrator.plan.plan import Plan
from orchestrator.runtime.sharding import Progress

_PHASE_LINES = {
    "reserving": "reserving the gang",
    "deploying": "bringing up the application",
    "stopping": "waiting for the last checkpoint",
}


_STEPPING = frozenset({"training", "stopping"})


class ProgressView:
    """Follows one run and tells the display about it."""

    def __init__(self, display: Display, plan: Plan) -> None:
        self._display = display
        self._plan = plan
        self._sharding = False
        self._training = False
        self._step = 0

    def say(self, text: str) -> None:
        """One line for the person."""
        self._display.line(text)

    def show_state(self, before: RunState, now: RunState) -> None:
        """Show what changed between two states."""
        if now.phase != before.phase:
            self._phase(before, now)
        if now.attempt != before.attempt and now.recovering:
            self.say(
                f"attempt {now.attempt}: restarting from step {now.committed_step} "
                f"after a loss ({now.recovering})"
            )
        known = {record.folder for record in before.committed}
        for record in now.committed:
            if record.folder not in known and before.phase != "new":
                self._committed(record.step, record.metrics)
        if now.store is not None and now.store_ready and not before.store_ready:
            self._store(now)

    def show_sharding(self, progress: Progress) -> None:
        """Show how far sharding is."""
        if not self._sharding:
            self._sharding = True
            self._display.begin("shard", progress.total, "shards")
        self._display.advance("shard", progress.done, f"{progress.num_bytes / 1e6:.1f} MB read")

    def show_records(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Show the step records that came in."""
        for record in records:
            self._display.event(record)
            if record.get("kind") == "started":
                self._begin_training(int(record["step"]))
        steps = [record for record in records if record.get("kind") == "step"]
        if not steps:
            return
        last = steps[-1]
        self._step = int(last["step"])
        self._display.advance("train", self._step, f"loss {last['loss']:.4f}")

    def close(self) -> None:
        """Finish what is still open."""
        if self._training:
            self._training = False
            self._display.finish("train", f"step {self._step}")

    def _begin_training(self, step: int) -> None:
        if not self._training:
            self._training = True
            self._display.begin("train", self._plan.training.steps, "steps", done=step)

    def _phase(self, before: RunState, now: RunState) -> None:
        self._display.event({"kind": "phase-change", "from": before.phase, "to": now.phase})
        if before.phase in _STEPPING and now.phase not in _STEPPING:
            self.close()
        if now.phase in _PHASE_LINES:
            self.say(_PHASE_LINES[now.phase])
        if now.phase == "serving" and now.url:
            self.say(f"serving step {now.promoted.step if now.promoted else '?'} at {now.url}")

    def _committed(self, step: int, metrics: Mapping[str, float]) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.say(f"checkpoint: step {step}" + (f", {text}" if text else ""))

    def _store(self, now: RunState) -> None:
        store = now.store
        assert store is not None
        how = "found" if store.reused else "built"
        note = f"{store.num_samples:,} samples in {store.num_shards} shards"
        bad = f"; {store.num_bad_files} files could not be read" if store.num_bad_files else ""
        if self._sharding:
            self._display.finish("shard", note)
        self.say(f"sample store {how}: {note}{bad}")
