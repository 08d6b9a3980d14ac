"""How long does an exchange between workers take?

The alpha-beta model: a message of n bytes takes latency + n / bandwidth. All-reduce by ring and by
tree. It does not know who exchanges what.
"""

from __future__ import annotations

import math

from orchestrator.planner.design.machine import Link


def ring_all_reduce(num_bytes: float, workers: int, link: Link) -> float:
    """2·(K-1)·α + 2·(K-1)/K·n/β seconds: least bytes, but a latency per worker.

    Source: Patarasuk and Yuan, JPDC 69(2), 2009.
    """
    if workers <= 1:
        return 0.0
    hops = 2 * (workers - 1)
    return hops * link.latency + hops / workers * num_bytes / link.bandwidth


def tree_all_reduce(num_bytes: float, workers: int, link: Link) -> float:
    """2·log2(K)·α + 2·n/β seconds: pipelined reduce and broadcast over a double binary tree.

    Source: Sanders, Speck and Träff, Parallel Computing 35(12), 2009 (two-tree algorithms).
    """
    if workers <= 1:
        return 0.0
    return 2 * math.ceil(math.log2(workers)) * link.latency + 2 * num_bytes / link.bandwidth


def gather(num_bytes: float, workers: int, link: Link) -> float:
    """(K-1)·α + (K-1)/K·n/β seconds: all-gather or reduce-scatter of n bytes by a ring."""
    if workers <= 1:
        return 0.0
    return (workers - 1) * link.latency + (workers - 1) / workers * num_bytes / link.bandwidth


def shared(link: Link, flows: float) -> Link:
    """What one of ``flows`` equal flows gets of a link."""
    return Link(bandwidth=link.bandwidth / max(flows, 1.0), latency=link.latency)
