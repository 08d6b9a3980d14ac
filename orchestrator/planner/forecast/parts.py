"""Where does the time of training go? The same parts for a prediction and for a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MESH_NAMES = {
    "dp": "replicate",
    "fsdp": "shard",
    "tp": "tensor",
    "pp": "pipeline",
    "cp": "context",
    "ep": "expert",
}
"""Mesh dimensions in the planner's words, and the plan's."""


@dataclass(frozen=True)
class Parts:
    """Seconds for one step, by what they were spent on; they sum to ``whole``.

    ``compute`` is a rank's own work, the optimizer included; ``communication`` what it waits for
    exchanges that nothing hides; ``waiting`` what it waits for other ranks: the bubble of a
    pipeline, and workers that are slower. ``data`` is waiting for samples. ``checkpoint`` is a
    step's share of evaluations and of what training stands still for checkpoints. ``by_dimension``
    splits communication over mesh dimensions (dp, fsdp, …), as far as that is known. Without
    ``apart`` nobody could tell a rank's own work from its waits (on an accelerator, whose work goes
    on without the thread that is watched): then ``compute`` holds both.
    """

    compute: float
    communication: float
    waiting: float
    data: float
    checkpoint: float
    by_dimension: Mapping[str, float] = field(default_factory=dict)
    apart: bool = True

    @property
    def step(self) -> float:
        """Seconds of a step, checkpoints left aside."""
        return self.compute + self.communication + self.waiting + self.data

    @property
    def whole(self) -> float:
        """Seconds for each step of training, checkpoints included."""
        return self.step + self.checkpoint

    def view(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "compute": self.compute,
            "communication": self.communication,
            "waiting": self.waiting,
            "data": self.data,
            "checkpoint": self.checkpoint,
            "by_dimension": dict(self.by_dimension),
            "apart": self.apart,
        }

    @classmethod
    def of(cls, view: Mapping[str, Any]) -> Parts:
        """From what ``view`` gave. Raises ``KeyError`` or ``ValueError`` for anything else."""
        return cls(
            compute=float(view["compute"]),
            communication=float(view["communication"]),
            waiting=float(view["waiting"]),
            data=float(view["data"]),
            checkpoint=float(view["checkpoint"]),
            by_dimension={str(name): float(part) for name, part in view["by_dimension"].items()},
            apart=bool(view["apart"]),
        )


@dataclass(frozen=True)
class Limit:
    """What takes most of a step: ``kind`` in a word or two, ``share`` of it, and a sentence."""

    kind: str
    share: float
    sentence: str


_SAID = {
    "compute": ("compute-bound", "computing"),
    "communication": ("communication-bound", "waiting for exchanges that nothing hides"),
    "waiting": ("waiting", "waiting for other workers: a pipeline's bubble, or slower ones"),
    "data": ("data-bound", "waiting for samples"),
    "checkpoint": ("checkpoint-bound", "evaluations, and standing still for checkpoints"),
}


def limit(parts: Parts) -> Limit:
    """What limits training, by the largest part; of communication the dimension that has most."""
    if parts.whole <= 0:
        raise ValueError("a step takes more than no time")
    name = max(_SAID, key=lambda each: float(getattr(parts, each)))
    share = float(getattr(parts, name)) / parts.whole
    kind, doing = _SAID[name]
    if name == "compute" and not parts.apart:
        kind, doing = "compute- or communication-bound", "computing or exchanging"
    if name == "communication" and parts.by_dimension:
        dimension = max(parts.by_dimension, key=lambda each: parts.by_dimension[each])
        kind = f"communication-bound by {MESH_NAMES.get(dimension, dimension)}"
    return Limit(kind, share, f"{kind}: {share:.0%} of the time is {doing}")
