"""``axis calibrate``: how fast is this cluster really? Writes a hardware file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import typer

from orchestrator.cli.hardware import DEFAULT_FILE
from orchestrator.errors import PlanError, Problem, StorageError
from orchestrator.planner.calibration.hardware_file import MARK, Calibrated, calibrated
from orchestrator.planner.calibration.timings import Timings
from orchestrator.planner.cost.device import Device, LinkFile
from orchestrator.planner.cost.estimate_text import seconds


def calibrate_cluster(
    output: str,
    storage: str,
    address: str | None,
    num_cpus: int | None,
    price_per_hour: float | None,
    as_json: bool,
) -> None:
    """Measure, fit, write the file and say what was found. Raises ``AxisError``."""
    _check_output(output)
    # Only now: a name that cannot be written is told so at once.
    from orchestrator.runtime.calibration.run import calibrate
    from orchestrator.runtime.cluster import prepare

    prepare()
    begun = time.monotonic()
    timings = calibrate(storage, address, num_cpus, _teller(as_json))
    found = calibrated(timings, price_per_hour)
    write_hardware(output, found.text)
    took = time.monotonic() - begun
    if as_json:
        view = found.device.model_dump(mode="json")
        typer.echo(
            json.dumps(
                {
                    "kind": "calibration",
                    "file": output,
                    "seconds": took,
                    "device": view,
                    "fit_errors": dict(found.errors),
                    "timings": asdict(timings),
                },
                indent=2,
            )
        )
        return
    typer.echo(_told(found, timings, took, output))


def _teller(as_json: bool) -> Callable[[str], None]:
    if as_json:
        return lambda text: typer.echo(json.dumps({"kind": "progress", "text": text}), err=True)
    return lambda text: typer.echo(text)


def _check_output(output: str) -> None:
    """A file that somebody wrote by hand is never overwritten."""
    target = Path(output)
    try:
        theirs = target.exists() and not target.read_text(encoding="utf-8").startswith(MARK)
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{output} cannot be read: {error}") from error
    if theirs:
        what = "exists and was not written by axis calibrate; it is left as it is"
        raise PlanError([Problem("--output", what, works="another name", file=output)], output)
    if not target.parent.is_dir():
        what = f"there is no folder {target.parent}"
        raise PlanError([Problem("--output", what, works=target.name)], output)


def write_hardware(output: str, text: str) -> None:
    """Write a hardware file. Raises ``StorageError``."""
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error}") from error


def _told(found: Calibrated, timings: Timings, took: float, output: str) -> str:
    device = found.device
    unit = "core" if device.kind == "cpu" else "device"
    lines = [
        f"{device.name}: {timings.num_workers} workers measured at once for {seconds(took)}",
        "",
        *_computing(device, unit),
        *_moving(device, found),
        *_costs(device),
    ]
    for name, reason in device.not_measured.items():
        lines.append(f"  {name:<18} {reason}")
    lines += ["", f"Written: {output}.", *_next(output)]
    return "\n".join(lines)


def _computing(device: Device, unit: str) -> list[str]:
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in _ceilings(device))
    rows = [("products", f"{rates}, a {unit} with all others busy")]
    half = device.half_lengths
    if half is not None:
        sides = f"rows {half.rows:.0f}, columns {half.columns:.0f}, inner {half.inner:.0f}"
        rows.append(("", f"half of it at {sides}"))
    flash = device.flash
    rows.append(
        ("attention", f"{flash.forward:.0%} of that forward, {flash.backward:.0%} backward")
    )
    rows.append(("memory", f"copies {_rate(device.memory_bandwidth)}"))
    rows.append(("", f"kernels of a layer {_rate(device.streaming_rate)}"))
    rows.append(("an operation", f"{seconds(device.host_seconds_per_operation)} of the host"))
    rows += _around(device)
    if "spread" not in device.not_measured:
        rows.append(("equal work", f"takes workers unequally long, by {device.spread:.1%}"))
    return [f"  {name:<18} {text}" for name, text in rows]


def _around(device: Device) -> list[tuple[str, str]]:
    """What the wrappers that split or recompute a layer take, where it was measured."""
    rows: list[tuple[str, str]] = []
    for again, found in device.layer_host:
        told = [f"{split} +{seconds(took)}" for split, took in found if took and split != "alone"]
        if found.alone:
            told = [f"{again} recomputation +{seconds(found.alone)}", *told]
        if told:
            rows.append(("", ", ".join(told)))
    if rows:
        rows[0] = ("a layer", f"{rows[0][1]} of the host")
    return rows


def _ceilings(device: Device) -> list[tuple[str, float]]:
    return sorted(device.matmul_ceiling.items(), key=lambda item: item[0] != "fp32")


def _moving(device: Device, found: Calibrated) -> list[str]:
    rows = []
    for name, link in device.collectives.items():
        error = found.errors[f"collectives.{name}"]
        rows.append(f"  {name.replace('_', '-'):<18} {_link(link)}; the fit is off by {error:.0%}")
    if "inter" not in device.not_measured:
        rows.append(f"  {'between nodes':<18} {_link(device.inter)}")
    return rows


def _costs(device: Device) -> list[str]:
    rows = []
    if device.disk is not None:
        disk = f"writes {_rate(device.disk.write)}, reads {_rate(device.disk.read)} a worker"
        rows.append(("storage", disk))
    if device.ray is not None:
        costs = device.ray
        text = f"actor {seconds(costs.actor_start)}, placement group "
        text += f"{seconds(costs.placement_group)}, objects {_link(costs.transfer)}"
        rows.append(("Ray", text))
    return [f"  {name:<18} {text}" for name, text in rows]


def _link(link: LinkFile) -> str:
    return f"{seconds(link.latency)} a step, {_rate(link.bandwidth)}"


def _rate(rate: float) -> str:
    return f"{rate / 1e9:.3g} GB/s"


def _next(output: str) -> list[str]:
    if output == DEFAULT_FILE:
        return ["axis plan and axis run predict with it from now on, in this folder."]
    return [f"To predict with it: axis plan PLAN --hardware {output}"]
