"""How is an estimate read by a person? As text of at most a screen."""

from __future__ import annotations

from orchestrator.planner.cost.compare import Comparison
from orchestrator.planner.cost.estimate import Estimate
from orchestrator.planner.cost.reasons import binding
from orchestrator.planner.cost.step import DIMENSIONS

_GB = 1e9


def estimate_text(found: Estimate) -> str:
    """The step, where its time goes, memory, money, reasons, and the defaults used."""
    case = found.case
    device = case.cluster.device
    title = found.name or f"{case.shape.parameters / 1e9:.3g} billion parameters"
    lines = [
        f"{title} on {case.degrees.size} × {device.name}, {case.degrees}",
        "",
        f"  step            {seconds(found.step_seconds)}",
        f"  throughput      {found.tokens_per_second_per_device:,.0f} tokens/s per device, "
        f"{found.tokens_per_second_per_device * case.degrees.size:,.0f} in all",
        f"  rate            {found.model_tflops_per_device:.0f} TFLOP/s per device for the model, "
        f"{found.hardware_tflops_per_device:.0f} carried out; MFU {found.mfu:.1%}",
        f"  memory          {found.memory.peak / _GB:.1f} GB of "
        f"{device.memory_bytes / _GB:.1f} GB: {'fits' if found.fits else 'DOES NOT FIT'}",
    ]
    lines += _money(found)
    lines.append(f"  binds           {binding(found.time)}")
    lines += ["", "  where the time goes", *_time(found), "", "  where the memory goes"]
    lines += _memory(found)
    lines += ["", "  why", *(f"    - {reason}" for reason in found.reasons)]
    if found.defaults:
        listed = ", ".join(
            f"{name} {shown_default(name, value)}" for name, value in found.defaults.items()
        )
        lines += ["", f"  defaults used: {listed}"]
    return "\n".join(lines)


def _money(found: Estimate) -> list[str]:
    money, lines = found.money, []
    if money.per_million_tokens is not None:
        lines.append(f"  cost            {money.per_million_tokens:.4g} per million tokens")
    if money.total is not None:
        lines.append(f"  to finish       {money.total:,.0f}")
    if money.seconds_to_finish is not None:
        lines.append(f"  time to finish  {money.seconds_to_finish / 86400:.1f} days, no failures")
    return lines


def _time(found: Estimate) -> list[str]:
    time = found.time
    parts = {
        "matrix products": time.products,
        "attention": time.attention,
        "memory-bound kernels": time.streaming,
        "launching": time.host,
        "pipeline bubble": time.bubble,
        "slower ranks": time.straggling,
        "optimizer": time.optimizer,
        "data": time.data,
        "checkpoints": found.checkpoint_share_seconds,
    }
    rows = [_row(name, part, found.step_seconds, "") for name, part in parts.items() if part > 0]
    for name in DIMENSIONS:
        exchange = time.communication[name]
        if exchange.total:
            hidden = exchange.exposed < 0.999 * exchange.total
            note = f"of {seconds(exchange.total)}, the rest is hidden" if hidden else ""
            label = f"{name} communication"
            rows.append(_row(label, exchange.exposed, found.step_seconds, note))
    return rows


def _row(name: str, part: float, whole: float, note: str) -> str:
    return f"    {name:<21} {seconds(part):>9}  {part / whole:>6.1%}  {note}".rstrip()


def _memory(found: Estimate) -> list[str]:
    names = ("parameters", "gradients", "optimizer", "activations", "buffers")
    sizes = ((name, float(getattr(found.memory, name))) for name in names)
    return [f"    {name:<21} {size / _GB:>6.1f} GB" for name, size in sizes if size]


def comparison_text(found: Comparison) -> str:
    """Which of two is better, and the parts that decide it."""
    lines = [found.verdict]
    for name, gap in found.differences[:6]:
        if abs(gap) > 1e-6:
            lines.append(f"  {name:<12} {'+' if gap > 0 else '-'}{seconds(abs(gap))}")
    return "\n".join(lines)


def seconds(value: float) -> str:
    """Seconds in a unit that suits them: ``95 us``, ``4.21 ms``, ``3.50 s``, ``2.1 h``."""
    if value >= 7200:
        return f"{value / 3600:.1f} h"
    if value >= 1:
        return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} us"


def shown_default(name: str, value: object) -> str:
    """A default in the units that a person would write it in."""
    if name.endswith("bandwidth") and isinstance(value, float):
        return f"{value / 1e9:g} GB/s"
    if name.endswith("latency") and isinstance(value, float):
        return seconds(value)
    return str(value).lower()
