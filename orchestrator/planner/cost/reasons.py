"""Why is a step as long as it is, and why does it fit or not? Said in sentences.

The largest parts first, each with its share and what would make it smaller.
"""

from __future__ import annotations

from orchestrator.planner.cost.case import Case
from orchestrator.planner.cost.groups import mesh_groups
from orchestrator.planner.cost.memory import FIT_SHARE, Memory, capacity_bytes, fits
from orchestrator.planner.cost.step import StepTime

_LARGE = 0.08
"""Share of a step or of memory from which a part is worth a sentence."""

_DIMENSION_WORDS = {
    "dp": ("gradients over replicas", "a larger global batch, or fewer replicas"),
    "fsdp": ("gathering shards", "a larger micro-batch, or fsdp within a node and dp between"),
    "tp": ("tensor all-reduces", "a smaller tp, or sequence_parallel"),
    "pp": ("activations between stages", "fewer stages, or an interleaved schedule"),
    "cp": ("keys and values round the ring", "a smaller cp"),
    "ep": ("tokens to experts and back", "a smaller ep, or ep within a node"),
}


def reasons(case: Case, time: StepTime, needed: Memory) -> tuple[str, ...]:
    """Sentences about time, then about memory."""
    return (*_time_reasons(case, time), *_memory_reasons(case, needed))


def binding(time: StepTime) -> str:
    """What takes most of the step: products, attention, streaming, host, bubble, straggling,
    optimizer, or a mesh dimension."""
    return max(_parts(time).items(), key=lambda item: item[1])[0]


def _parts(time: StepTime) -> dict[str, float]:
    named = ("products", "attention", "streaming", "host", "bubble", "straggling", "optimizer")
    parts = {name: float(getattr(time, name)) for name in named}
    return parts | {name: part.exposed for name, part in time.communication.items()}


def _time_reasons(case: Case, time: StepTime) -> list[str]:
    said: list[str] = []
    for name, seconds in sorted(_parts(time).items(), key=lambda item: -item[1]):
        share = seconds / time.total
        if share >= _LARGE:
            said.append(f"{share:.0%} of the step is {_about(case, time, name)}")
    crossing = _crossing(case)
    wider = _wider(case)
    return said + [each for each in (crossing, wider) if each]


def _about(case: Case, time: StepTime, name: str) -> str:
    device = case.cluster.device
    if name == "products":
        rate = device.ceiling(case.work.precision) * device.sustained / 1e12
        return f"matrix products, at no more than {rate:.0f} TFLOP/s on {device.name}"
    if name == "attention":
        kind = case.work.attention
        hint = "; attention: flash would shorten it" if kind == "unfused" else ""
        return f"{kind} attention{hint}"
    if name == "streaming":
        return "norms, activations and loss, bound by memory bandwidth"
    if name == "host":
        return "the host launching operations; a larger micro_batch or compiled: true helps"
    if name == "bubble":
        virtual = case.work.virtual_stages
        arithmetic = f"(pp − 1)/(v·m) = ({case.degrees.pp} − 1)/({virtual}·{case.micro_batches})"
        return f"the pipeline's bubble, {arithmetic}; more micro-batches help"
    if name == "straggling":
        return f"waiting for the slowest of {case.degrees.size} ranks, which differ by chance"
    if name == "optimizer":
        return "the optimizer; sharding: optimizer divides it over the data ranks"
    what, hint = _DIMENSION_WORDS[name]
    if name == "tp" and case.work.sequence_parallel:
        hint = "a smaller tp"
    if name == "pp" and case.work.schedule == "interleaved":
        hint = "fewer stages"
    hidden = 1 - time.communication[name].exposed / time.communication[name].total
    return f"{name} communication ({what}), {hidden:.0%} of it hidden; {hint} helps"


def _crossing(case: Case) -> str | None:
    groups = mesh_groups(case)
    if groups.tp.nodes > 1:
        return f"tp {case.degrees.tp} spans {groups.tp.nodes} nodes: its traffic leaves the node"
    return None


def _wider(case: Case) -> str | None:
    """A precision that the device lacks is computed in the next wider one that it has."""
    device, asked = case.cluster.device, case.work.precision
    used = device.precision_used(asked)
    if used == asked:
        return None
    return f"{device.name} has no {asked}: matrix products are computed in {used}"


def _memory_reasons(case: Case, needed: Memory) -> list[str]:
    device = case.cluster.device
    share = needed.peak / device.memory_bytes
    named = ("parameters", "gradients", "optimizer", "activations", "buffers")
    parts = sorted(((float(getattr(needed, n)), n) for n in named), reverse=True)
    listed = ", ".join(f"{n} {size / 1e9:.1f} GB" for size, n in parts if size)
    text = f"{needed.peak / 1e9:.1f} GB at the peak is {share:.0%} of {device.name} ({listed})"
    if fits(case, needed.peak):
        return [text]
    free = f"{capacity_bytes(device) / 1e9:.1f} GB can be used: {FIT_SHARE:.0%} less the reserve"
    return [text, f"does not fit: {free}; {_way_out(case, parts[0][1])}"]


def _way_out(case: Case, largest: str) -> str:
    work = case.work
    if largest == "activations":
        if work.attention == "unfused":
            return "attention: flash keeps no scores"
        if work.recompute != "full":
            return "recompute: full keeps only the input of each layer"
        return "a smaller micro_batch, or a larger tp, cp or pp"
    if work.sharding != "full" and case.degrees.batch > 1:
        return "sharding: full divides the states over the data ranks"
    return "a larger tp, pp or fsdp, over more devices"
