"""What do serving, data processing and agents pay in communication and failures?

It decides nothing: the back edge reads what is here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.planner.design.serving import (
    Replica,
    answer_seconds,
    machine_rate,
    token_replica,
)
from orchestrator.planner.design.sizing import Choice, Sizing
from orchestrator.planner.design.training_tax import failure_rates
from orchestrator.planner.design.work import planned_bytes
from orchestrator.planner.design.workload import Agents, Workload
from orchestrator.planner.failure import interruptions, spares_needed

CONFIDENCE = 0.999
"""With this probability no more machines are down at once than there are spares for."""


@dataclass(frozen=True, slots=True)
class ServingTax:
    """Of one request: look-ups out of its budget, and what a lost machine means."""

    budget_seconds: float | None
    lookups: int
    lookup_seconds: float
    communication_seconds: float
    compute_seconds: float
    fan_out_limit: int | None
    """Look-ups, one after the other, that use the budget up."""
    shards_waited_for: int
    replica: Replica | None
    replicas_down: int
    """At once, with less than one in a thousand of more."""
    utilization_then: float
    """How busy the others are then, at the peak."""

    @property
    def left_seconds(self) -> float | None:
        """What look-ups leave of the budget."""
        if self.budget_seconds is None:
            return None
        return self.budget_seconds - self.communication_seconds

    @property
    def shard_percentile(self) -> float:
        """The percentile that each shard must keep so that 99 % of requests wait for none:
        0.99^(1/F). Source: Dean and Barroso, The Tail at Scale, CACM 56(2), 2013."""
        return float(0.99 ** (1.0 / max(1, self.shards_waited_for)))


@dataclass(frozen=True, slots=True)
class DataTax:
    """Of processing all data: reading it and sending part of it to other machines."""

    num_machines: int
    processing_seconds: float
    shuffle_bytes: float
    shuffle_seconds: float
    window_seconds: float
    failures: float
    """Machines lost meanwhile; each costs its share of the work, done again."""

    @property
    def finish_seconds(self) -> float:
        """Both, one after the other, and the shares of lost machines done again."""
        once = self.processing_seconds + self.shuffle_seconds
        return once * (1.0 + self.failures / self.num_machines)


@dataclass(frozen=True, slots=True)
class AgentsTax:
    """Of agents that talk: bytes on their channel, and how many of them are down."""

    peers: int
    messages_per_second: float
    bytes_per_second: float
    channel_share: float | None
    """Of the shared channel, where there is one."""
    answer_seconds: float | None
    """From asking a peer to having decided."""
    down: int


def serving_tax(workload: Workload, sizing: Sizing, choice: Choice) -> ServingTax | None:
    """The tax of one request; ``None`` where nothing is served."""
    serving, pool = workload.serving, sizing.serving
    if serving is None or pool is None:
        return None
    hops = {"in turn": serving.lookups, "at once": min(1, serving.lookups), "local": 0}
    down, busy = _lost_replicas(workload, sizing)
    once = serving.lookup_latency
    limit = int(serving.latency / once + 1e-9) if serving.latency and once else None
    all_shards = serving.shards_touched == "all"
    replica = token_replica(workload)
    # Devices that share one answer also share its computing.
    compute = (answer_seconds(workload) or 0.0) / pool.split
    if workload.machine.devices == 0:
        compute = answer_seconds(workload) or 0.0
    return ServingTax(
        budget_seconds=serving.latency,
        lookups=serving.lookups,
        lookup_seconds=once,
        communication_seconds=hops[choice.lookups] * once,
        compute_seconds=compute,
        fan_out_limit=limit,
        shards_waited_for=sizing.index_machines if all_shards else 0,
        replica=replica,
        replicas_down=down,
        utilization_then=busy,
    )


def _lost_replicas(workload: Workload, sizing: Sizing) -> tuple[int, float]:
    """Replicas down at once, and how busy the rest are then."""
    serving, pool = workload.serving, sizing.serving
    if serving is None or pool is None:
        return 0, 0.0
    rates, repair = failure_rates(workload), workload.failure.repair
    rate = rates[len(rates) // 2]
    if sizing.index_machines:
        # Every shard has a copy in each replica, and only its own copies stand in for it.
        surely = CONFIDENCE ** (1.0 / sizing.index_machines)
        down = spares_needed(pool.replicas, rate, repair, surely)
    else:
        with_one = max(1, pool.per_machine // pool.split)  # replicas that fall with one machine
        down = with_one * spares_needed(sizing.serving_machines, rate, repair, CONFIDENCE)
    down = min(down, pool.replicas)
    left = pool.replicas - down
    busy = (
        serving.utilization * _fill(workload, sizing) * pool.replicas / left if left else math.inf
    )
    return down, busy


def _fill(workload: Workload, sizing: Sizing) -> float:
    """How much of the replicas' planned capacity the peak needs; rounding up leaves some free."""
    serving, pool, rate = workload.serving, sizing.serving, machine_rate(workload)
    if serving is None or pool is None or rate is None:
        return 1.0
    machines = pool.num_devices / pool.per_machine
    if sizing.index_machines:
        touched = 1 if serving.shards_touched == "all" else sizing.index_machines
        machines = pool.replicas * touched
    return serving.requests_per_second / (serving.utilization * rate.per_second * machines)


def data_tax(workload: Workload, num_machines: int) -> DataTax | None:
    """The tax of processing on ``num_machines``; ``None`` where nothing is processed."""
    data, machine = workload.data, workload.machine
    if data is None or data.process is None:
        return None
    process = data.process
    read = process.passes * planned_bytes(data)
    moved = read * process.shuffle * (num_machines - 1) / num_machines
    working = read / (min(process.rate, machine.disk_rate) * num_machines)
    rates = failure_rates(workload)
    return DataTax(
        num_machines=num_machines,
        processing_seconds=working,
        shuffle_bytes=moved,
        shuffle_seconds=moved / (machine.network.bandwidth * num_machines),
        window_seconds=process.window,
        failures=interruptions(num_machines, rates[len(rates) // 2], working),
    )


def agents_tax(workload: Workload, choice: Choice) -> AgentsTax | None:
    """The tax of agents; ``None`` where there are none."""
    agents = workload.agents
    if agents is None:
        return None
    peers = _peers(agents, choice)
    messages = agents.population * peers * agents.messages_per_second
    channel, rates = agents.channel, failure_rates(workload)
    link = channel or workload.machine.network
    hop = link.latency + agents.message / link.bandwidth
    return AgentsTax(
        peers=peers,
        messages_per_second=messages,
        bytes_per_second=messages * agents.message,
        channel_share=messages * agents.message / channel.bandwidth if channel else None,
        answer_seconds=2 * hop + agents.compute if peers else agents.compute,
        down=spares_needed(
            agents.population, rates[len(rates) // 2], workload.failure.repair, CONFIDENCE
        ),
    )


def _peers(agents: Agents, choice: Choice) -> int:
    asked = agents.population - 1 if agents.peers is None else agents.peers
    return asked if choice.most_peers is None else min(asked, choice.most_peers)
