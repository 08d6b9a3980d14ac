"""What does a measured machine look like as a hardware file?

The same fields as the files that ship, so that the same loader reads it; above each group of
fields stands how it was measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from orchestrator.plan.yaml_dialect import PlanDumper, PlanLoader
from orchestrator.planner.calibration.fitting import (
    LinkFit,
    ProductFit,
    fit_attention,
    fit_kernels,
    fit_line,
    fit_link,
    fit_products,
    fit_spread,
    layer_host,
)
from orchestrator.planner.calibration.timings import (
    ExchangeTiming,
    Precision,
    ProductTiming,
    RayTimings,
    Timings,
)
from orchestrator.planner.cost.device import Collective, Device, Refit
from orchestrator.planner.cost.hardware_files import parse_device

MARK = "# Measured by axis calibrate"
"""The first line of a file that was written by it, and may be written anew."""

STATED_BANDWIDTH, STATED_LATENCY = 1.25e9, 1e-4
"""A link of 10 Gb/s Ethernet: written, and named as not measured, where there was nothing to
measure between."""


@dataclass(frozen=True)
class Calibrated:
    """The device, and how well the few numbers in it stand for what was timed: the mean relative
    error of each fit, by field."""

    device: Device
    errors: Mapping[str, float]
    text: str


def calibrated(timings: Timings, price_per_hour: float | None = None) -> Calibrated:
    """Fit every number of a hardware file. Raises ``ValueError`` where timings are missing."""
    main: Precision = "fp32" if timings.kind == "cpu" else "bf16"
    products = [each for worker in timings.workers for each in worker.products]
    fitted = fit_products([each for each in products if each.precision == main])
    values = _head(timings) | _rates(timings, products, main, fitted)
    values |= _memory(timings)
    links, errors = _links(timings)
    values |= links
    values["not_measured"] |= _layers_not_measured(values.get("layer_host", {}))
    if "spread" not in values:
        values["not_measured"]["spread"] = _spread_not_measured(timings)
    values |= {"price_per_hour": price_per_hour}
    if timings.disk is not None:
        values["disk"] = {
            "write": timings.disk.write_bytes_per_second,
            "read": timings.disk.read_bytes_per_second,
        }
    if timings.ray is not None:
        values["ray"] = _ray(timings.ray)
    values = _rounded(values)
    text = _text(values, timings)
    # What is written is what is used: read back by the loader that everybody has.
    device = parse_device(text, "the measured hardware file")
    return Calibrated(device, {"products": fitted.error, **errors}, text)


def _head(timings: Timings) -> dict[str, Any]:
    unit = "core" if timings.kind == "cpu" else "device"
    return {
        "name": f"{_slug(timings.model_name)}-{unit}",
        "kind": timings.kind,
        "generation": f"measured-{_slug(timings.model_name)}",
    }


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unnamed"


def _rates(
    timings: Timings, products: Sequence[ProductTiming], main: Precision, fitted: ProductFit
) -> dict[str, Any]:
    ceilings: dict[str, float] = {main: fitted.rate}
    for other in sorted({each.precision for each in products} - {main}):
        own = [each for each in products if each.precision == other]
        ceilings[other] = median(each.rate / _share(each, fitted) for each in own)
    if timings.kind == "gpu":  # tiles and waves say more of small products there
        for each in products:
            ceilings[each.precision] = max(
                t.rate for t in products if t.precision == each.precision
            )
    attention = [each for worker in timings.workers for each in worker.attention]
    own_precision = [each for each in attention if each.precision == main]
    forward, backward = fit_attention(own_precision, ceilings[main])
    values: dict[str, Any] = {
        # Nobody measures what a data sheet promises: shares of peak are shares of this.
        "peak_flops": ceilings,
        "matmul_ceiling": ceilings,
        "sustained": 1.0,
        "flash": {"forward": forward, "backward": backward},
    }
    values["processors"] = timings.workers[0].processors
    if timings.kind == "cpu":
        values["half_lengths"] = fitted.half.model_dump()
    return values


def _share(timing: ProductTiming, fitted: ProductFit) -> float:
    half = fitted.half
    share = timing.rows / (timing.rows + half.rows)
    share *= timing.columns / (timing.columns + half.columns)
    return share * timing.inner / (timing.inner + half.inner)


def _memory(timings: Timings) -> dict[str, Any]:
    bandwidth = median(worker.memory_bytes_per_second for worker in timings.workers)
    kernels = fit_kernels([each for worker in timings.workers for each in worker.kernels])
    host = median(worker.operation_seconds for worker in timings.workers)
    layers = layer_host(timings.layers)
    return {
        "memory_bytes": timings.memory_bytes,
        "memory_bandwidth": bandwidth,
        "memory_efficiency": kernels / bandwidth,
        "host_seconds_per_operation": host,
        **({"layer_host": layers} if layers else {}),
        **({"spread": fit_spread(timings.pace)} if timings.pace else {}),
        "per_node": timings.per_node,
    }


def _layers_not_measured(found: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    if not found:
        return {"layer_host": "not measured on GPUs: taken for nothing"}
    if "none" in found:
        return {}
    return {
        "layer_host": "tensor and shard not measured, there was one core on each node: taken for "
        "nothing"
    }


def _spread_not_measured(timings: Timings) -> str:
    where = "on GPUs" if timings.kind == "gpu" else "there was one core"
    return f"not measured, {where}: ranks are taken for equally fast"


def _links(timings: Timings) -> tuple[dict[str, Any], dict[str, float]]:
    """The links, what had to be stated instead of measured, and the errors of the fits."""
    within, between = _fits(timings.within), _fits(timings.between)
    stated: dict[str, Any] = {
        "bandwidth": STATED_BANDWIDTH,
        "latency": STATED_LATENCY,
        "efficiency": 1.0,
    }
    intra = _link(within["all_reduce"]) if within else None
    inter = _link(between["all_reduce"]) if between else None
    missing: dict[str, str] = {}
    if inter is None:
        where = "as within the node" if intra else "a stated 10 Gb/s Ethernet"
        missing["inter"] = f"not measured, there was one node: {where}"
    if intra is None:
        where = "as between nodes" if inter else "a stated 10 Gb/s Ethernet"
        missing["intra"] = f"not measured, there was one device on each node: {where}"
    values: dict[str, Any] = {
        "intra": intra or inter or stated,
        "inter": inter or intra or stated,
        "collectives": {name: _link(fit) for name, fit in within.items()},
        "not_measured": missing,
    }
    errors = {f"collectives.{name}": fit.error for name, fit in within.items()}
    errors |= {f"inter, {name}": fit.error for name, fit in between.items()}
    return values, errors


def _fits(timings: Sequence[ExchangeTiming]) -> dict[Collective, LinkFit]:
    names: list[Collective] = list(dict.fromkeys(each.collective for each in timings))
    return {name: fit_link([t for t in timings if t.collective == name]) for name in names}


def _link(fit: LinkFit) -> dict[str, float]:
    return {"bandwidth": fit.bandwidth, "latency": fit.alpha, "efficiency": 1.0}


def _ray(timings: RayTimings) -> dict[str, Any]:
    constant, slope = fit_line([(float(size), seconds) for size, seconds in timings.transfers])
    size, seconds = max(timings.transfers)
    rate = 1.0 / slope if slope > 0 else size / seconds
    return {
        "actor_start": timings.actor_start_seconds,
        "placement_group": timings.placement_group_seconds,
        "transfer": {"bandwidth": rate, "latency": max(1e-6, constant), "efficiency": 1.0},
    }


def _rounded(value: Any) -> Any:
    """Four digits: what is measured is known no better."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value


_RATES = frozenset({"bandwidth", "memory_bandwidth", "write", "read"})
_TIMES = frozenset(
    {
        "latency", "host_seconds_per_operation", "actor_start", "placement_group",
        "alone", "tensor", "shard",
    }
)  # fmt: skip


def _with_units(name: str, value: Any) -> Any:
    """Quantities as a person would write them: ``1.94GB/s``, ``541us``."""
    if isinstance(value, dict):
        return {key: _with_units(key, each) for key, each in value.items()}
    if isinstance(value, float) and name in _RATES:
        return f"{value / 1e9:.4g}GB/s"
    if isinstance(value, float) and name in _TIMES:
        return _duration(value)
    return value


def _duration(value: float) -> str:
    """Four digits in the largest unit that keeps them before the point."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.4g}{unit}"
    return f"{float(f'{value * 1e6:.4g}'):f}".rstrip("0").rstrip(".") + "us"


_NOTES: dict[str, str] = {
    "name": "One core of a processor, or one accelerator, and the node around it.",
    "peak_flops": "Full rate of matrix products, operations per second, fitted to all shapes with "
    "all workers computing\n# at once. Nobody measures a data sheet: shares of peak (MFU) are "
    "shares of this.",
    "flash": "Causal fused attention, as shares of it at head size 128.",
    "half_lengths": "Length of a side at which a product reaches half of the full rate "
    "(Hockney and Jesshope 1981).",
    "memory_bytes": "Memory of one device; of a core its share of the node's.",
    "memory_bandwidth": "Bytes per second of copying what no cache holds; below, what elementwise "
    "kernels of a layer\n# reach, by the bytes that the planner counts.",
    "host_seconds_per_operation": "One small operation, from Python.",
    "layer_host": "What a layer's forward and backward pass take of Python beyond that, where it "
    "is\n# split or computed again.",
    "spread": "How unequally long ranks take for equal work at the same time: the standard "
    "deviation as a share.",
    "intra": "Links, seconds of a step and bytes per second: alpha and beta of real process "
    "groups.\n# intra is the all-reduce; each collective is asked for by its own where it was "
    "measured.",
    "price_per_hour": "Of one device; axis calibrate --price-per-hour states it.",
    "disk": "Durable writes to the storage of runs, and reads.",
    "ray": "From asking to the first answer; transfer is an object from one process to another.",
    "refit": "axis calibrate --from-runs: seconds that runs took over those that were predicted.",
}


def _text(values: Mapping[str, Any], timings: Timings) -> str:
    nodes = "1 node" if timings.num_nodes == 1 else f"{timings.num_nodes} nodes"
    versions = ", ".join(f"{name} {version}" for name, version in timings.versions.items())
    return file_text(values, f"{timings.num_workers} workers on {nodes}; {versions}")


def file_text(values: Mapping[str, Any], how: str) -> str:
    """The values as a hardware file, each group under how it was measured; ``how`` says on what."""
    lines = [f"{MARK}: {how}." if how else f"{MARK}."]
    for name, value in values.items():
        if name in _NOTES:
            lines.append(f"# {_NOTES[name]}")
        dumped = yaml.dump(
            {name: _with_units(name, value)},
            Dumper=PlanDumper,
            sort_keys=False,
            allow_unicode=True,
            width=200,
            default_flow_style=None if isinstance(value, dict) else False,
        )
        lines.append(dumped.rstrip())
    return "\n".join(lines) + "\n"


def with_refit(text: str, factors: Refit) -> str:
    """The text of a hardware file with other factors, everything else as it was.

    Raises ``ValueError`` for a file that was not written here.
    """
    head, _, _ = text.partition("\n")
    if not head.startswith(MARK):
        raise ValueError("only a file that axis calibrate wrote can be refitted")
    values: dict[str, Any] = yaml.load(text, Loader=PlanLoader)
    values["refit"] = factors.model_dump()
    return file_text(values, head.removeprefix(MARK).lstrip(":").strip().rstrip("."))
