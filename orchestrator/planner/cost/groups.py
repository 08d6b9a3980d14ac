"""How long does a collective of one mesh dimension take on nodes with two kinds of links?

A group of n ranks with a stride between neighbours spans k nodes with g ranks in each. Within
a node every rank has a link of its own; between nodes the ranks of a node share its links, and
since every group of the dimension talks at the same time, each rank has its share.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.planner.cost import collectives
from orchestrator.planner.cost.case import Case, Cluster, Degrees
from orchestrator.planner.cost.device import Collective, Link

LAUNCH_SECONDS = 30e-6
"""Start of a collective on the device, before its first step (nccl-tests, smallest sizes)."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one collective moves bytes within a node: seconds of a step, and of a byte."""

    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class Group:
    """``ranks`` ranks, ``local`` of them in each of ``nodes`` nodes.

    ``reduced``, ``gathered`` and ``exchanged`` are the ways of all-reduce, all-gather (and
    reduce-scatter) and all-to-all; the same link where they were not measured one by one.
    """

    ranks: int
    local: int
    nodes: int
    within: Way
    reduced: Way
    gathered: Way
    exchanged: Way
    between: Way

    def all_reduce(self, size: float) -> float:
        """Hierarchical, its levels pipelined: the slower level decides, latencies add.

        Within a node 2(g−1)/g·n over the device's link; between nodes 2(k−1)/k·n/g over its
        share of the node's links; steps as a ring within and a tree between nodes.
        """
        if self.ranks < 2:
            return 0.0
        within = collectives.all_reduce_ring(size, self.local, 0.0, self.reduced.beta)
        between = collectives.all_reduce_ring(size / self.local, self.nodes, 0.0, self.between.beta)
        steps = 2 * (self.local - 1) * self.reduced.alpha
        steps += 2 * (self.nodes - 1).bit_length() * self.between.alpha
        return LAUNCH_SECONDS + steps + max(within, between)

    def all_gather(self, size: float) -> float:
        """Ring over all ranks; ``size`` is the gathered bytes. Reduce-scatter costs the same."""
        if self.ranks < 2:
            return 0.0
        within = collectives.all_gather(size, self.ranks, 0.0, self.gathered.beta)
        steps = (self.local - 1) * self.gathered.alpha
        if self.nodes == 1:
            return LAUNCH_SECONDS + steps + within
        if self.local == 1:
            within = 0.0
        between = collectives.all_gather(size / self.local, self.nodes, 0.0, self.between.beta)
        steps += (self.nodes - 1) * self.between.alpha
        return LAUNCH_SECONDS + steps + max(within, between)

    def all_to_all(self, size: float) -> float:
        """Pairwise; ``size`` is what one rank sends in all, its own part included."""
        if self.ranks < 2:
            return 0.0
        inside = size * (self.local - 1) / self.ranks * self.exchanged.beta
        outside = size * (self.ranks - self.local) / self.ranks * self.between.beta
        steps = (self.local - 1) * self.exchanged.alpha
        steps += (self.nodes - 1).bit_length() * self.between.alpha
        return LAUNCH_SECONDS + steps + max(inside, outside)

    def send(self, size: float) -> float:
        """One message to the next rank of the group."""
        if self.ranks < 2:
            return 0.0
        if self.nodes > 1:
            return LAUNCH_SECONDS + self.between.alpha + size * self.between.beta
        return LAUNCH_SECONDS + self.within.alpha + size * self.within.beta


@lru_cache(maxsize=4096)
def make_group(cluster: Cluster, ranks: int, stride: int) -> Group:
    """The group of ``ranks`` ranks whose neighbours are ``stride`` ranks apart."""
    per_node = min(cluster.per_node, cluster.devices)
    local = max(1, min(ranks, per_node // stride))
    while ranks % local:
        local -= 1
    device, factor = cluster.device, cluster.device.refit.communication
    share = cluster.inter.bandwidth * device.inter.efficiency / per_node
    within = _way(cluster.intra, device.intra.efficiency, factor)
    return Group(
        ranks,
        local,
        ranks // local,
        within,
        _measured(cluster, "all_reduce", within),
        _measured(cluster, "all_gather", within),
        _measured(cluster, "all_to_all", within),
        Way(cluster.inter.latency_seconds * factor, factor / share),
    )


def _way(link: Link, efficiency: float, factor: float) -> Way:
    return Way(link.latency_seconds * factor, factor / (link.bandwidth * efficiency))


def _measured(cluster: Cluster, collective: Collective, otherwise: Way) -> Way:
    """What was measured of one collective; ``otherwise`` where it was not, or where the links of
    the specification are not those of the device that was measured."""
    device = cluster.device
    found = device.collectives.get(collective)
    own = Link(device.intra.bandwidth, device.intra.latency)
    if found is None or cluster.intra != own:
        return otherwise
    link = Link(found.bandwidth, found.latency)
    return _way(link, found.efficiency, device.refit.communication)


@dataclass(frozen=True, slots=True)
class Groups:
    """One group for each dimension, and the one over which states are sharded."""

    tp: Group
    cp: Group
    fsdp: Group
    dp: Group
    ep: Group
    pp: Group
    states: Group


def mesh_groups(case: Case) -> Groups:
    """The groups of a mesh laid out pp, dp, fsdp, cp, tp from the outermost to the innermost."""
    degrees, cluster = case.degrees, case.cluster

    def group(ranks: int, stride: int) -> Group:
        return make_group(cluster, ranks, stride)

    return Groups(
        tp=group(degrees.tp, 1),
        cp=group(degrees.cp, degrees.tp),
        fsdp=group(degrees.fsdp, degrees.tp * degrees.cp),
        dp=group(degrees.dp, degrees.tp * degrees.cp * degrees.fsdp),
        ep=group(degrees.ep, degrees.tp),
        pp=group(degrees.pp, degrees.size // degrees.pp),
        states=_states_group(cluster, degrees),
    )


def _states_group(cluster: Cluster, degrees: Degrees) -> Group:
    """Ranks that hold the same parameters and share their states: context and data ranks."""
    return make_group(cluster, degrees.shard_group, degrees.tp)
