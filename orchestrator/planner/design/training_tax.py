"""What does distributed training pay in communication and failures, for each step and in all?

Seconds per step for any number of replicas, from which the honest count follows. It decides
nothing: the back edge reads what is here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.planner.design.links import gather, ring_all_reduce, shared, tree_all_reduce
from orchestrator.planner.design.machine import Link
from orchestrator.planner.design.sizing import Choice, Collective, Pool, replica_counts
from orchestrator.planner.design.work import (
    dense_parameters,
    num_steps,
    parties_apart,
    training_bytes,
    training_seconds,
)
from orchestrator.planner.design.workload import Model, Training, Workload
from orchestrator.planner.failure import (
    GREATEST_RATE,
    LEAST_RATE,
    MEDIAN_RATE,
    FailureTax,
    failure_tax,
    nodes_for,
)
from orchestrator.planner.scaling import communication_ratio, honest_worker_count, scaling_curve


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step of a pool, in seconds; exchanges are averaged over local steps."""

    pool: Pool
    collective: Collective
    gradient_bytes: float
    """What one worker exchanges with its peers of other replicas."""
    compute_seconds: float
    replicas_seconds: float
    """Gradients, between replicas."""
    split_seconds: float
    """Parameters or embeddings, within one replica."""
    exposed_seconds: float
    """Communication that computing does not hide."""

    @property
    def communication_seconds(self) -> float:
        """Hidden or not."""
        return self.replicas_seconds + self.split_seconds

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute_seconds + self.exposed_seconds

    @property
    def ratio(self) -> float:
        """Exposed communication over compute; above 1 the tax exceeds the work."""
        return communication_ratio(self.exposed_seconds, self.compute_seconds)


@dataclass(frozen=True, slots=True)
class TrainingTax:
    """The whole tax of one pool."""

    step: Step
    num_steps: int
    honest_replicas: int
    """Replicas beyond which one more brings less than half of one."""
    checkpoint_seconds: float
    failures: tuple[FailureTax, ...]
    """At the rate that was given; else at the least, the median and the greatest published."""

    @property
    def typical(self) -> FailureTax:
        """At the rate given, or the median."""
        return self.failures[len(self.failures) // 2]

    @property
    def finish_seconds(self) -> float:
        """Wall-clock time of the whole training, taxes included."""
        return self.num_steps * self.step.seconds / max(self.typical.goodput, 1e-12)


def training_tax(workload: Workload, pool: Pool, choice: Choice) -> TrainingTax | None:
    """The tax of ``pool``; ``None`` where nothing is trained."""
    training, model = workload.training, workload.model
    if training is None or model is None:
        return None
    step = step_of(workload, model, training, pool, choice)
    steps = num_steps(training)
    saving = checkpoint_seconds(workload, model, pool)
    failures = tuple(
        failure_tax(pool.num_machines, rate, saving, steps * step.seconds, workload.failure.restart)
        for rate in failure_rates(workload)
    )
    return TrainingTax(step, steps, honest_replicas(workload, pool, choice), saving, failures)


def failure_rates(workload: Workload) -> tuple[float, ...]:
    """Failures per 1000 node-days: what was given, or the published least, median, greatest."""
    given = workload.failure.rate
    return (given,) if given is not None else (LEAST_RATE, MEDIAN_RATE, GREATEST_RATE)


def checkpoint_seconds(workload: Workload, model: Model, pool: Pool) -> float:
    """What was given, or the state over the disks of the machines that hold one replica."""
    if workload.failure.checkpoint is not None:
        return workload.failure.checkpoint
    writers = nodes_for(pool.split, pool.per_machine)
    return max(training_bytes(model) / (writers * workload.machine.disk_rate), 1e-3)


def honest_replicas(workload: Workload, pool: Pool, choice: Choice, least_gain: float = 0.5) -> int:
    """The last number of replicas at which each added one brought ``least_gain`` of a replica."""
    training, model = workload.training, workload.model
    if training is None or model is None:
        return pool.replicas

    def seconds(replicas: int) -> float:
        other = replace(pool, replicas=replicas)
        return step_of(workload, model, training, other, choice).seconds

    return honest_worker_count(scaling_curve(seconds, replica_counts(workload)), least_gain)


def step_of(
    workload: Workload, model: Model, training: Training, pool: Pool, choice: Choice
) -> Step:
    """One step: compute = one device's time / devices; communication by the collective."""
    machine = workload.machine
    alone = training_seconds(workload) * machine.num_units / num_steps(training)
    compute = alone / pool.num_devices
    between = _between_replicas(workload, model, pool, choice)
    within = _within_replica(workload, model, training, pool)
    exposed = max(0.0, between + within - training.overlap * compute)
    return Step(
        pool, choice.collective, _gradient_bytes(model, pool), compute, between, within, exposed
    )


def _gradient_bytes(model: Model, pool: Pool) -> float:
    """Gradients of the dense parameters that one device holds. Beside embedding tables, which
    are spread over the split, the dense part is held whole by every device."""
    whole = dense_parameters(model) * model.bytes_per_parameter
    return whole if model.sparse_parameters else whole / pool.split


def _between_replicas(workload: Workload, model: Model, pool: Pool, choice: Choice) -> float:
    own = _gradient_bytes(model, pool)
    parties, link = parties_apart(workload), workload.trust.link
    if parties > 1 and link is not None:
        whole = dense_parameters(model) * model.bytes_per_parameter
        inside = _in_one_domain(workload, model, own, pool.replicas // parties, pool.split, choice)
        return inside + _by(choice, whole, parties, link) / choice.local_steps
    return _in_one_domain(workload, model, own, pool.replicas, pool.split, choice)


def _in_one_domain(
    workload: Workload, model: Model, own: float, replicas: int, split: int, choice: Choice
) -> float:
    machine = workload.machine
    ranks, flows = (replicas * split, 1) if model.sparse_parameters else (replicas, split)
    if replicas * split <= machine.num_units:
        return ring_all_reduce(own, ranks, machine.device_link)
    # The ranks of a machine that hold different parts share its network card.
    link = shared(machine.network, min(flows, machine.num_units))
    if choice.collective != "tree":
        return ring_all_reduce(own, ranks, link)
    near = max(1, machine.num_units // flows)
    inside = ring_all_reduce(own, near, machine.device_link)
    return inside + tree_all_reduce(own, max(1, -(-ranks // near)), link)


def _by(choice: Choice, num_bytes: float, workers: int, link: Link) -> float:
    exchange = tree_all_reduce if choice.collective == "tree" else ring_all_reduce
    return exchange(num_bytes, workers, link)


def _within_replica(workload: Workload, model: Model, training: Training, pool: Pool) -> float:
    """Sharded parameters are gathered twice and their gradients scattered once a step (ZeRO-3,
    arXiv:1910.02054, section 7.2); embeddings are exchanged all to all, and tokens with experts."""
    machine, split = workload.machine, pool.split
    if split <= 1:
        return 0.0
    near = split <= machine.num_units
    link = machine.device_link if near else shared(machine.network, machine.num_units)
    own = training.batch / pool.num_devices
    sent = own * model.expert_bytes_per_sample
    experts = gather(sent, split, link) if sent else 0.0
    if model.sparse_parameters:
        return experts + gather(own * model.sparse_bytes_per_sample, split, link)
    return experts + 3 * gather(dense_parameters(model) * model.bytes_per_parameter, split, link)
