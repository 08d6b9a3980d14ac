"""How many machines, devices and replicas does each axis get?

Counts follow from the ratios of stage 1; what the back edge has decided in an earlier round comes
in as a ``Choice``. It does not know what the counts cost in communication.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from orchestrator.planner.design.ceilings import Axis, Demand
from orchestrator.planner.design.serving import fitting_split, serving_split
from orchestrator.planner.design.work import parties_apart, training_bytes
from orchestrator.planner.design.workload import Workload
from orchestrator.planner.failure import nodes_for

Collective = Literal["ring", "tree", "local-update"]
Lookups = Literal["in turn", "at once", "local"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the back edge has turned so far; the first round turns nothing."""

    collective: Collective = "ring"
    local_steps: int = 1
    """Steps between two exchanges, where workers train on their own in between."""
    most_replicas: int | None = None
    least_replicas: int = 1
    lookups: Lookups = "in turn"
    least_data_machines: int = 1
    most_peers: int | None = None
    least_serving_replicas: int = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """``replicas`` copies, each split over ``split`` devices."""

    replicas: int
    split: int
    per_machine: int
    parties: int = 1
    """Domains that share the replicas evenly, each on machines of its own."""

    @property
    def num_devices(self) -> int:
        """Their product: the axes multiply."""
        return self.replicas * self.split

    @property
    def num_machines(self) -> int:
        """Machines that hold the devices."""
        return self.parties * nodes_for(self.num_devices // self.parties, self.per_machine)


@dataclass(frozen=True, slots=True)
class Sizing:
    """What each axis gets. ``data_machines`` hold and process the records; 0 without any."""

    data_machines: int
    training: Pool | None
    serving: Pool | None
    index_machines: int
    """Machines that one copy of looked-up data is spread over; 0 without such data."""
    agents: int

    @property
    def serving_machines(self) -> int:
        """Machines that answer; each copy of looked-up data needs all of its machines."""
        if self.serving is None:
            return 0
        return max(self.serving.num_machines, self.serving.replicas * self.index_machines)

    @property
    def num_machines(self) -> int:
        """Machines at the same time: data and training take turns, serving does not."""
        # Looked-up data lies on the machines that answer.
        data = 0 if self.index_machines else self.data_machines
        before = max(data, self.training.num_machines if self.training else 0)
        alone = before <= 1 and self.serving_machines <= 1
        both = max(before, self.serving_machines) if alone else before + self.serving_machines
        return max(1, both, self.agents)


def size_up(workload: Workload, demands: tuple[Demand, ...], choice: Choice) -> Sizing:
    """The smallest counts that bring every ratio to 1 or less."""
    index = _index_machines(workload, demands)
    return Sizing(
        data_machines=max(_data_machines(workload, demands, choice), index),
        training=_training(workload, demands, choice),
        serving=_serving(workload, demands, index, choice),
        index_machines=index,
        agents=workload.agents.population if workload.agents and workload.agents.alone else 0,
    )


def replica_counts(workload: Workload) -> tuple[int, ...]:
    """Numbers of replicas that share the batch evenly, ascending; in whole domains."""
    training = workload.training
    if training is None:
        return (1,)
    batch, parties = max(1, int(training.batch)), parties_apart(workload)
    small = [n for n in range(1, math.isqrt(batch) + 1) if batch % n == 0]
    counts = sorted({*small, *(batch // n for n in small)})
    return tuple(n for n in counts if n % parties == 0) or (parties,)


def worst(demands: tuple[Demand, ...], axis: Axis, *names: str) -> float:
    """The highest ratio on an axis, of the demands named, or of all; 0 without one."""
    return max((d.ratio for d in demands if d.axis == axis and (not names or d.name in names)),
               default=0.0)  # fmt: skip


def _ceil(number: float) -> int:
    return max(1, math.ceil(number - 1e-9))


def _data_machines(workload: Workload, demands: tuple[Demand, ...], choice: Choice) -> int:
    if workload.data is None:
        return 0
    return max(_ceil(worst(demands, "data")), choice.least_data_machines)


def _index_machines(workload: Workload, demands: tuple[Demand, ...]) -> int:
    looked_up = workload.data is not None and workload.data.access == "random"
    return _ceil(worst(demands, "data", "memory", "disk")) if looked_up and workload.serving else 0


def _training(workload: Workload, demands: tuple[Demand, ...], choice: Choice) -> Pool | None:
    model, machine = workload.model, workload.machine
    if workload.training is None or model is None:
        return None
    split = fitting_split(training_bytes(model) / machine.unit_memory, machine)
    needed = worst(demands, "training", "training time") * machine.num_units / split
    counts = replica_counts(workload)
    least = max(_ceil(needed), choice.least_replicas, parties_apart(workload))
    replicas = next((count for count in counts if count >= least), counts[-1])
    if choice.most_replicas is not None:
        replicas = min(replicas, choice.most_replicas)
    return Pool(replicas, split, machine.num_units, parties_apart(workload))


def _serving(
    workload: Workload, demands: tuple[Demand, ...], index: int, choice: Choice
) -> Pool | None:
    serving, machine = workload.serving, workload.machine
    if serving is None:
        return None
    split = serving_split(workload)
    ratio = worst(demands, "inference", "requests")
    if index > 1 and serving.shards_touched == "one":
        ratio /= index  # each shard answers its own part of the requests
    per_machine = machine.num_units
    replicas = _ceil(ratio) if index else _ceil(ratio * per_machine / split)
    replicas = max(replicas, choice.least_serving_replicas)
    return Pool(_over_sites(workload, replicas), split, per_machine)


def _over_sites(workload: Workload, replicas: int) -> int:
    """As many in each site, and enough where a machine or a site may be lost."""
    failure = workload.failure
    if failure.survive == "site":
        return _ceil(replicas / (failure.sites - 1)) * failure.sites
    if failure.survive == "machine":
        replicas = max(replicas, 2)
    return _ceil(replicas / failure.sites) * failure.sites
