"""Two configurations, and why one is better.

Puts two estimates of the same model and batch side by side, part by part, and says which
parts make the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.planner.cost.estimate import Estimate

PART_WORDS = {
    "products": "matrix products",
    "attention": "attention",
    "streaming": "memory-bound kernels",
    "host": "launching operations",
    "bubble": "the pipeline's bubble",
    "straggling": "waiting for slower ranks",
    "optimizer": "the optimizer",
    "data": "the feed",
    "checkpoint": "checkpoints",
}
"""Parts of a step, as a sentence calls them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``differences`` are the seconds that the worse one spends more, largest first; a part
    that it does better is negative. Their sum is the difference of the steps."""

    better: Estimate
    worse: Estimate
    differences: tuple[tuple[str, float], ...]
    verdict: str

    def view(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "better": str(self.better.case.degrees),
            "worse": str(self.worse.case.degrees),
            "verdict": self.verdict,
            "differences_seconds": dict(self.differences),
            "step_seconds": [self.better.step_seconds, self.worse.step_seconds],
            "peak_bytes": [round(self.better.memory.peak), round(self.worse.memory.peak)],
        }


def compare(one: Estimate, other: Estimate) -> Comparison:
    """Which of two estimates is better: one that fits before one that does not, then the
    faster for each token and device."""
    better, worse = sorted((one, other), key=_badness)
    parts, others = _seconds(better), _seconds(worse)
    scale = _tokens(better) / _tokens(worse)
    gaps = {name: others[name] * scale - parts[name] for name in parts}
    ordered = tuple(sorted(gaps.items(), key=lambda item: -abs(item[1])))
    return Comparison(better, worse, ordered, _verdict(better, worse, ordered))


def _badness(found: Estimate) -> tuple[bool, float]:
    return not found.fits, -found.tokens_per_second_per_device


def _tokens(found: Estimate) -> float:
    """Tokens of a step for each device."""
    work = found.case.work
    return work.global_batch * work.seq_len / found.case.degrees.size


def _seconds(found: Estimate) -> dict[str, float]:
    time = found.time
    named = ("products", "attention", "streaming", "host", "bubble", "straggling", "optimizer")
    parts = {name: float(getattr(time, name)) for name in (*named, "data")}
    parts["checkpoint"] = found.checkpoint_share_seconds
    return parts | {name: part.exposed for name, part in time.communication.items()}


def _verdict(better: Estimate, worse: Estimate, differences: tuple[tuple[str, float], ...]) -> str:
    names = f"{better.case.degrees}", f"{worse.case.degrees}"
    if better.fits and not worse.fits:
        needed = worse.memory.peak / 1e9
        device = worse.case.cluster.device.name
        return f"{names[0]} fits and {names[1]} does not: {needed:.1f} GB on {device}"
    gain = better.tokens_per_second_per_device / worse.tokens_per_second_per_device - 1
    if gain < 1e-9:
        return f"{names[0]} and {names[1]} are equally fast"
    saved = [(name, gap) for name, gap in differences if gap > 0][:2]
    paid = [(name, gap) for name, gap in differences if gap < 0][:1]
    text = f"{names[0]} is {gain:.1%} faster than {names[1]}: it saves "
    text += " and ".join(f"{gap:.3g} s of {_word(name)}" for name, gap in saved)
    if paid and -paid[0][1] > 0.05 * saved[0][1]:
        text += f", and pays {-paid[0][1]:.3g} s of {_word(paid[0][0])}"
    return text


def _word(name: str) -> str:
    return PART_WORDS.get(name, f"{name} communication")
