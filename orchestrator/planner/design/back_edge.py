"""The back edge: has a tax become the new ceiling, and what is turned before going round again?

Every remedy is turned at most once and only one way (ring to tree, fewer replicas, exchanging less
often, look-ups at once and then local, fewer peers), so that the rounds end. Where no remedy is
left, what is asked for cannot be had, and the arithmetic says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.planner.design.other_taxes import AgentsTax, DataTax, ServingTax, data_tax
from orchestrator.planner.design.sizing import Choice, Pool, Sizing, replica_counts
from orchestrator.planner.design.training_tax import TrainingTax, honest_replicas, training_tax
from orchestrator.planner.design.wording import counted, figure, seconds, share
from orchestrator.planner.design.work import parties_apart, planned_bytes
from orchestrator.planner.design.workload import Workload

LOCAL_TAX = 0.1
"""The tax that exchanging less often aims at."""
WORTH_TURNING = 0.9
"""Another collective is worth it if it takes less than this share of the time."""
SLOW = 0.2
"""Communication over compute from which a faster network is the first thing to ask for."""
BUSIEST = 0.9
"""How busy replicas may be while others are down; beyond it the queue decides the tail."""
MOST_COUNTS = 400
"""Numbers of replicas that are tried for a deadline."""


@dataclass(frozen=True, slots=True)
class Taxes:
    """The communication and failure taxes of one round."""

    training: TrainingTax | None
    serving: ServingTax | None
    data: DataTax | None
    agents: AgentsTax | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A tax that became the ceiling, and what the next round does about it."""

    ceiling: str
    remedy: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to go round again; without a turn, what cannot be met at all."""

    turn: Turn | None = None
    unmet: tuple[str, ...] = ()


def judge(workload: Workload, taxes: Taxes, sizing: Sizing, choice: Choice) -> Verdict:
    """The first tax that has a remedy turns the design; those without one are collected."""
    unmet: list[str] = []
    for found in _verdicts(workload, taxes, sizing, choice):
        if found.turn is not None:
            return found
        unmet += found.unmet
    return Verdict(unmet=tuple(unmet))


def _verdicts(
    workload: Workload, taxes: Taxes, sizing: Sizing, choice: Choice
) -> Iterator[Verdict]:
    if taxes.data is not None:
        yield _data(workload, taxes.data, choice)
    if taxes.training is not None and taxes.training.step.pool.num_devices > 1:
        yield _training(workload, taxes.training, choice)
    elif taxes.training is not None:
        yield _alone(workload, taxes.training, choice)
    if taxes.serving is not None:
        yield _serving(workload, taxes.serving, choice)
        yield _spares(workload, taxes.serving, sizing, choice)
    if taxes.agents is not None:
        yield _agents(workload, taxes.agents, choice)


def _data(workload: Workload, tax: DataTax, choice: Choice) -> Verdict:
    if tax.finish_seconds <= tax.window_seconds:
        return Verdict()
    ceiling = (
        f"with its shuffle the pass takes {seconds(tax.finish_seconds)} of "
        f"{seconds(tax.window_seconds)}"
    )
    enough = _machines_for_window(workload, tax)
    if choice.least_data_machines > 1 or enough is None:
        works = "a longer window, a faster network, or less to shuffle (send hashes, not records)"
        return Verdict(unmet=(f"{ceiling}; works: {works}",))
    remedy = f"{counted(enough, 'machine')} instead of {tax.num_machines}"
    return Verdict(Turn(ceiling, remedy, replace(choice, least_data_machines=enough)))


def _machines_for_window(workload: Workload, tax: DataTax) -> int | None:
    low, step = tax.num_machines, max(1, tax.num_machines // 32)
    tried: set[int] = {*range(low, low + 64), *range(low, 16 * low + 1, step)}
    for machines in sorted(tried):
        candidate = data_tax(workload, machines)
        if candidate is not None and candidate.finish_seconds <= tax.window_seconds:
            return machines
    return None


def _alone(workload: Workload, tax: TrainingTax, choice: Choice) -> Verdict:
    deadline = workload.training.deadline if workload.training else math.inf
    if tax.finish_seconds <= deadline * 1.001:
        return Verdict()
    return _late(workload, tax, choice, deadline)


def _training(workload: Workload, tax: TrainingTax, choice: Choice) -> Verdict:
    deadline = workload.training.deadline if workload.training else math.inf
    late, heavy = tax.finish_seconds > deadline, tax.step.ratio > 1.0
    if not late and not heavy:
        return Verdict()
    step = tax.step
    ceiling = (
        f"a step computes {seconds(step.compute_seconds)} and communicates "
        f"{seconds(step.exposed_seconds)} ({figure(step.ratio)}× the work)"
        if heavy
        else f"with its taxes training takes {seconds(tax.finish_seconds)} of {seconds(deadline)}"
    )
    for turn in _training_turns(workload, tax, choice, ceiling, heavy, deadline):
        return Verdict(turn)
    return _late(workload, tax, choice, deadline) if late else Verdict()


def _training_turns(
    workload: Workload, tax: TrainingTax, choice: Choice, ceiling: str, heavy: bool, deadline: float
) -> Iterator[Turn]:
    pool = tax.step.pool
    if parties_apart(workload) > 1:
        if heavy and choice.local_steps == 1:
            yield _exchange_less(tax, choice, ceiling)
        return
    if choice.collective == "ring":
        tree = replace(choice, collective="tree")
        other = training_tax(workload, pool, tree)
        if other and other.step.seconds < WORTH_TURNING * tax.step.seconds:
            remedy = (
                "another collective: a ring inside each machine and a tree across, "
                f"{seconds(other.step.exposed_seconds)} a step"
            )
            yield Turn(ceiling, remedy, tree)
    honest = honest_replicas(workload, pool, choice)
    if heavy and honest < pool.replicas and choice.most_replicas is None:
        fewer = f"fewer workers: {counted(honest, 'replica')} instead of {pool.replicas}; each one "
        remedy = fewer + "more brings less than half of one"
        yield Turn(ceiling, remedy, replace(choice, most_replicas=honest))
    enough = _replicas_for(workload, pool, choice, deadline)
    if not heavy and enough is not None and choice.least_replicas == 1:
        remedy = f"{counted(enough, 'replica')} instead of {pool.replicas}: they work the tax off"
        yield Turn(ceiling, remedy, replace(choice, least_replicas=enough))


def _exchange_less(tax: TrainingTax, choice: Choice, ceiling: str) -> Turn:
    wanted = tax.step.exposed_seconds / (LOCAL_TAX * tax.step.compute_seconds)
    steps = max(2, math.ceil(wanted))
    remedy = (
        f"exchange less often: {steps:,} local steps, then average the models (federated "
        "averaging, arXiv:1602.05629); the result is no longer that of one worker"
    )
    return Turn(ceiling, remedy, replace(choice, collective="local-update", local_steps=steps))


def _replicas_for(workload: Workload, pool: Pool, choice: Choice, deadline: float) -> int | None:
    """The fewest replicas above those of ``pool`` that meet the deadline, taxes included."""
    most = choice.most_replicas or math.inf
    more = [count for count in replica_counts(workload) if pool.replicas < count <= most]
    for replicas in more[:MOST_COUNTS]:
        tax = training_tax(workload, replace(pool, replicas=replicas), choice)
        if tax and tax.finish_seconds <= deadline and tax.step.ratio <= 1.0:
            return replicas
    return None


def _late(workload: Workload, tax: TrainingTax, choice: Choice, deadline: float) -> Verdict:
    step = tax.step
    text = (
        f"training takes {seconds(tax.finish_seconds)} on "
        f"{counted(step.pool.num_devices, workload.machine.unit)}, {seconds(deadline)} were asked "
        f"for; computing is {share(step.compute_seconds / step.seconds)} of a step"
    )
    # Fewer workers were taken because of the network, so it is the network that is too slow.
    slow = choice.most_replicas is not None or step.ratio > SLOW
    works = (
        "a faster network, a larger batch, or training.overlap where it hides"
        if slow
        else "a later deadline, a larger batch (more replicas can share it), or faster devices"
    )
    return Verdict(unmet=(f"{text}; works: {works}",))


def _serving(workload: Workload, tax: ServingTax, choice: Choice) -> Verdict:
    if tax.replica is not None:
        return _tokens(workload, tax)
    return _lookups(workload, tax, choice)


def _spares(workload: Workload, tax: ServingTax, sizing: Sizing, choice: Choice) -> Verdict:
    """Are the replicas that are left busy beyond what tails allow, when some are down?"""
    pool = sizing.serving
    if pool is None or tax.utilization_then <= BUSIEST or choice.least_serving_replicas > 1:
        return Verdict()
    if pool.replicas == 1 and workload.failure.survive == "nothing":
        return Verdict()
    down = tax.replicas_down
    if down < pool.replicas:
        then = f"the others are {share(tax.utilization_then)} busy at the peak"
        needed = down + math.ceil(tax.utilization_then * (pool.replicas - down) / BUSIEST)
    else:
        then, needed = "none is left", down + 1
    ceiling = f"with {down} of {counted(pool.replicas, 'replica')} down, {then}"
    replicas = max(pool.replicas + 1, needed)
    remedy = f"{replicas} replicas instead of {pool.replicas}"
    return Verdict(Turn(ceiling, remedy, replace(choice, least_serving_replicas=replicas)))


def _lookups(workload: Workload, tax: ServingTax, choice: Choice) -> Verdict:
    left = tax.left_seconds
    if left is None or left >= tax.compute_seconds:
        return Verdict()
    ceiling = (
        f"{tax.lookups} look-ups of {seconds(tax.lookup_seconds)} leave "
        f"{seconds(max(left, 0.0))} of {seconds(tax.budget_seconds or 0.0)}, computing takes "
        f"{seconds(tax.compute_seconds)}"
    )
    if tax.lookups > 1 and choice.lookups == "in turn":
        remedy = (
            f"ask for all {tax.lookups} at once: one round trip of {seconds(tax.lookup_seconds)}"
        )
        return Verdict(Turn(ceiling, remedy, replace(choice, lookups="at once")))
    data, memory = workload.data, 0.8 * workload.machine.memory
    if tax.lookups and choice.lookups != "local" and data and planned_bytes(data) <= memory:
        remedy = "keep what is looked up in the memory of every replica"
        return Verdict(Turn(ceiling, remedy, replace(choice, lookups="local")))
    works = "a larger budget, faster look-ups, or less computing per answer"
    return Verdict(unmet=(f"{ceiling}; works: {works}",))


def _tokens(workload: Workload, tax: ServingTax) -> Verdict:
    tokens = workload.serving.tokens if workload.serving else None
    if tokens is None or tax.replica is None:
        return Verdict()
    unmet = [
        f"{name} takes {seconds(took)} on {tax.replica.split} devices, {seconds(budget)} were "
        "asked for; works: a smaller or sparser model, shorter prompts, or faster devices"
        for name, took, budget in (
            ("the first token", tax.replica.prompt_seconds, tokens.first),
            ("each token", tax.replica.token_seconds, tokens.each),
        )
        if took > budget
    ]
    return Verdict(unmet=tuple(unmet))


def _agents(workload: Workload, tax: AgentsTax, choice: Choice) -> Verdict:
    agents = workload.agents
    if agents is None:
        return Verdict()
    if tax.channel_share is not None and tax.channel_share > 1.0:
        fits = math.floor(tax.peers / tax.channel_share)
        ceiling = (
            f"{figure(tax.messages_per_second)} messages/s to {tax.peers} peers each fill the "
            f"shared channel {figure(tax.channel_share)} times"
        )
        if choice.most_peers is None and fits >= 1:
            remedy = f"talk to the {fits} nearest peers, not to {tax.peers}"
            return Verdict(Turn(ceiling, remedy, replace(choice, most_peers=fits)))
        return Verdict(unmet=(f"{ceiling}; works: smaller or fewer messages, or more channels",))
    if agents.reaction and tax.answer_seconds and agents.compute > agents.reaction:
        due = f"reaction is due in {seconds(agents.reaction)}"
        text = f"a decision takes {seconds(agents.compute)}, {due}"
        return Verdict(unmet=(f"{text}; works: a smaller model or a faster machine",))
    return Verdict()
