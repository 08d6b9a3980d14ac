"""How is it said that nodes do not offer what a gang needs?

Values and words. Does not find out what is missing (``preflight``, ``assign``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.coordinator.needs import Need, Shape
from orchestrator.plan.quantities import format_size


@dataclass(frozen=True)
class Shortfall:
    """One thing that is missing.

    ``short`` is how much of ``resource`` is missing in all; where the sum would do but no
    node has room (``fragmented``), how many bundles find no node. ``works`` names plan values
    that fit, or is empty. ``labels`` says which nodes alone were counted, or is empty.
    """

    resource: str
    demand: str
    needed: float
    offered: float
    num_nodes: int
    fragmented: bool = False
    works: str = ""
    labels: str = ""

    @property
    def short(self) -> float:
        """``needed - offered``."""
        return self.needed - self.offered

    def render(self) -> str:
        """``needs 4 × {CPU: 1}; 1 node offers 2; short by 2 CPU. training.workers=2 fits``."""
        verb, such = ("has", "have") if self.fragmented else ("offers", "offer"), self.labels
        noun = "such node" if such else "node"
        one = self.num_nodes == 1
        nodes = f"1 {noun} {verb[0]}" if one else f"{self.num_nodes} {noun}s {verb[1]}"
        demand = f"{self.demand} on nodes with {such}" if such else self.demand
        if self.fragmented:
            found = f"{nodes} room for {self.offered:g} of {self.needed:g} such bundles"
            text = f"needs {demand}, each whole on one node; {found}"
        else:
            short = format_amount(self.resource, self.short)
            offered = format_amount(self.resource, self.offered, named=False)
            text = f"needs {demand}; {nodes} {offered}; short by {short}"
        return f"{text}. {self.works} fits" if self.works else f"{text}. Nothing smaller fits"


@dataclass(frozen=True)
class Shortfalls:
    """Why a gang has no place: what is provably ``missing``, and further ``reasons`` in words."""

    missing: tuple[Shortfall, ...] = ()
    reasons: tuple[str, ...] = ()

    def render(self) -> str:
        """One line for each."""
        return "\n".join([*(each.render() for each in self.missing), *self.reasons])


def format_amount(resource: str, amount: float, named: bool = True) -> str:
    """``2 CPU``, ``1.5GiB memory``: an amount of a resource for people."""
    text = f"{amount:g}"
    if resource in ("memory", "object_store_memory"):
        text = _format_bytes(amount)
    return f"{text} {resource}" if named else text


def format_bundle(bundle: Mapping[str, float]) -> str:
    """``{CPU: 1, GPU: 1}``."""
    parts = (
        f"{name}: {format_amount(name, amount, named=False)}" for name, amount in bundle.items()
    )
    return "{" + ", ".join(parts) + "}"


def format_demand(counts: Mapping[Need, int]) -> str:
    """``2 × {CPU: 2} and 6 × {CPU: 1}``; labels are left to who says it."""
    shapes: dict[Shape, int] = {}
    for need, count in counts.items():
        shapes[need.shape] = shapes.get(need.shape, 0) + count
    parts = (f"{count} × {format_bundle(Need(shape).bundle)}" for shape, count in shapes.items())
    return " and ".join(parts)


def _format_bytes(amount: float) -> str:
    exact = format_size(int(amount))
    return exact if len(exact) <= 8 else f"{amount / 2**30:.3g}GiB"
