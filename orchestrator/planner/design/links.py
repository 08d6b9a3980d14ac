"""How long does an exchange between workers take?

The alpha-beta model: a message of n bytes takes latency + n / bandwidth. The formulas are those of
``cost.collectives``, asked with the links of a workload; it does not know who exchanges what.
"""

from __future__ import annotations

from orchestrator.planner.cost import collectives
from orchestrator.planner.design.machine import Link


def ring_all_reduce(num_bytes: float, workers: int, link: Link) -> float:
    """Seconds of a ring: least bytes, but a latency per worker."""
    return collectives.all_reduce_ring(num_bytes, workers, link.latency, 1.0 / link.bandwidth)


def tree_all_reduce(num_bytes: float, workers: int, link: Link) -> float:
    """Seconds of a pipelined double binary tree: few latencies."""
    return collectives.all_reduce_tree(num_bytes, workers, link.latency, 1.0 / link.bandwidth)


def gather(num_bytes: float, workers: int, link: Link) -> float:
    """Seconds of an all-gather or a reduce-scatter of n bytes by a ring."""
    return collectives.all_gather(num_bytes, workers, link.latency, 1.0 / link.bandwidth)


def shared(link: Link, flows: float) -> Link:
    """What one of ``flows`` equal flows gets of a link."""
    return Link(bandwidth=link.bandwidth / max(flows, 1.0), latency=link.latency)
