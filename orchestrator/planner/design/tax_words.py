"""Stage 6 in words: what each tax is, in lines of a name and a sentence with its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.planner.design.design import Round
from orchestrator.planner.design.other_taxes import AgentsTax, DataTax, ServingTax
from orchestrator.planner.design.training_tax import Step, TrainingTax
from orchestrator.planner.design.wording import count, counted, figure, rate, seconds, share, size
from orchestrator.planner.design.workload import Workload

Line = tuple[str, str]
"""What a line is about, and what it says."""


def tax_lines(workload: Workload, walk: Round) -> list[Line]:
    """The communication taxes, then the failure taxes, of everything that is distributed."""
    taxes = walk.taxes
    lines: list[Line] = []
    if taxes.data is not None and taxes.data.num_machines > 1:
        lines += _data(taxes.data)
    if taxes.training is not None and taxes.training.step.pool.num_devices > 1:
        lines += _training(workload, walk, taxes.training)
    if taxes.serving is not None:
        lines += _serving(walk, taxes.serving)
    if taxes.agents is not None:
        lines += _agents(taxes.agents)
    return lines


def _data(tax: DataTax) -> Iterator[Line]:
    if tax.shuffle_bytes:
        yield (
            "shuffle",
            f"{size(tax.shuffle_bytes)} change machines in {seconds(tax.shuffle_seconds)}, "
            f"{share(tax.shuffle_seconds / tax.processing_seconds)} of the "
            f"{seconds(tax.processing_seconds)} of processing",
        )
    yield (
        "lost machines",
        f"{figure(tax.failures)} in a pass; each has its 1/{tax.num_machines} done again: "
        f"{seconds(tax.finish_seconds)} of {seconds(tax.window_seconds)} in all",
    )


def _training(workload: Workload, walk: Round, tax: TrainingTax) -> Iterator[Line]:
    step = tax.step
    yield "step", _step(workload, step)
    yield "exchange", _exchange(walk, step)
    if step.pool.replicas > 1 or tax.honest_replicas > 1:
        honest = tax.honest_replicas * step.pool.split
        yield (
            "honest count",
            f"{honest:,}: up to there each {workload.machine.unit} more brings at least half of "
            f"one; this design takes {step.pool.num_devices:,}",
        )
    if workload.training is not None:
        yield from _failures(tax, workload.training.deadline)


def _step(workload: Workload, step: Step) -> str:
    hidden = step.communication_seconds - step.exposed_seconds
    much = "all" if step.exposed_seconds == 0 else seconds(hidden)
    behind = f", {much} of it hidden behind computing" if hidden > 0 else ""
    return (
        f"{seconds(step.seconds)}: computing {seconds(step.compute_seconds)} on "
        f"{counted(step.pool.num_devices, workload.machine.unit)}, communication "
        f"{seconds(step.communication_seconds)}{behind}; tax "
        f"{share(step.exposed_seconds / step.seconds)} of the step"
    )


def _exchange(walk: Round, step: Step) -> str:
    parts = []
    if step.pool.replicas > 1 or step.replicas_seconds:
        how = "a tree across machines" if step.collective == "tree" else "a ring"
        parts.append(
            f"{size(step.gradient_bytes)} of gradients a device by {how}, "
            f"{seconds(step.replicas_seconds)}"
        )
        if step.collective == "local-update":
            steps = walk.choice.local_steps
            parts = [
                f"{size(step.gradient_bytes)} of parameters every {steps:,} steps, "
                f"{seconds(step.replicas_seconds * steps)} each time"
            ]
    if step.split_seconds:
        parts.append(f"{seconds(step.split_seconds)} within the {step.pool.split} of one replica")
    return "; ".join(parts)


def _failures(tax: TrainingTax, deadline: float) -> Iterator[Line]:
    low, high = tax.failures[0], tax.failures[-1]
    middle = tax.typical
    spread = f" ({figure(low.num_interruptions)} to {figure(high.num_interruptions)})"
    yield (
        "interruptions",
        f"{counted(middle.num_nodes, 'machine')} fail every "
        f"{seconds(middle.mean_time_to_failure_seconds)}: {figure(middle.num_interruptions)} "
        f"interruptions{spread if len(tax.failures) > 1 else ''} until it is done",
    )
    ranged = f" ({share(high.goodput)} to {share(low.goodput)})" if len(tax.failures) > 1 else ""
    yield (
        "checkpoint",
        f"every {seconds(middle.interval_seconds)} at {seconds(tax.checkpoint_seconds)} each "
        f"(Daly): goodput {share(middle.goodput)}{ranged}; done in "
        f"{seconds(tax.finish_seconds)}, asked for in {seconds(deadline)}",
    )


def _serving(walk: Round, tax: ServingTax) -> Iterator[Line]:
    if tax.replica is not None:
        replica = tax.replica
        exchange = (
            f"; {seconds(replica.exchange_seconds)} of it exchanges between the devices"
            if replica.exchange_seconds
            else "; exchanges between devices are not counted, as model.layers is not given"
        )
        yield (
            "tokens",
            f"first after {seconds(replica.prompt_seconds)}, then one every "
            f"{seconds(replica.token_seconds)} for {replica.batch} requests at once"
            f"{exchange if replica.split > 1 else ''}",
        )
    if tax.lookups and tax.left_seconds is not None:
        yield "look-ups", _lookups(walk, tax)
    if tax.shards_waited_for > 1:
        yield (
            "fan-out",
            f"an answer waits for the slowest of {tax.shards_waited_for} shards: for 99 of 100 on "
            f"time each shard has to keep its {100 * tax.shard_percentile:.2f}th percentile",
        )
    pool = walk.sizing.serving
    if pool is not None and pool.replicas > 1:
        yield (
            "lost replicas",
            f"{tax.replicas_down} of {pool.replicas} replicas may be down at once (99.9 % of the "
            f"time no more); the others are then {share(tax.utilization_then)} busy",
        )


def _lookups(walk: Round, tax: ServingTax) -> str:
    way = {
        "in turn": f"{tax.lookups} · {seconds(tax.lookup_seconds)}",
        "at once": f"{tax.lookups} at once",
        "local": "in the replica's own memory",
    }[walk.choice.lookups]
    text = (
        f"{way} = {seconds(tax.communication_seconds)} of {seconds(tax.budget_seconds or 0.0)}; "
        f"{seconds(tax.left_seconds or 0.0)} left"
    )
    if tax.compute_seconds:
        text += f", computing takes {seconds(tax.compute_seconds)}"
    if walk.choice.lookups == "in turn" and tax.fan_out_limit:
        text += f". The budget is gone at {tax.fan_out_limit} look-ups"
        if tax.compute_seconds:
            fits = int(((tax.budget_seconds or 0.0) - tax.compute_seconds) / tax.lookup_seconds)
            text += f", too short from {fits + 1} on"
    return text


def _agents(tax: AgentsTax) -> Iterator[Line]:
    filled = f", {share(tax.channel_share)} of the channel" if tax.channel_share else ""
    yield (
        "messages",
        f"{count(tax.messages_per_second)}/s to {counted(tax.peers, 'peer')} each = "
        f"{rate(tax.bytes_per_second)}{filled}",
    )
    if tax.answer_seconds is not None:
        yield "reaction", f"ask a peer, hear from it and decide: {seconds(tax.answer_seconds)}"
    yield (
        "lost agents",
        f"{tax.down} may be down at once (99.9 % of the time no more); the others go on",
    )
