"""The design as an axis plan: a file to begin with, that ``axis plan`` accepts as it stands.

Counts, batch and mesh are the design's answers. Which Job and which files only the user knows: the
draft names shipped ones in their place, each line marked so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from orchestrator.plan.counts import LARGEST_COUNT
from orchestrator.plan.quantities import format_duration
from orchestrator.planner.design.design import Design
from orchestrator.planner.design.sizing import Pool
from orchestrator.planner.design.verdict import verdict
from orchestrator.planner.design.wording import counted
from orchestrator.planner.design.work import num_steps, parties_apart
from orchestrator.planner.design.workload import Workload

MARK = "# Axis plan drafted by axis design"
"""What every draft begins with."""
FILL_IN = "FILL IN"
"""Marks what only you can know."""
_LARGEST_BATCH = 65_536
"""A batch of more samples than this counts tokens, not the sequences that a loader hands out."""


def plan_yaml(found: Design) -> str:
    """The plan as YAML with comments; lines marked ``FILL IN`` are for the user to say."""
    workload = found.workload
    lines = [
        f"{MARK} for {workload.name}; {FILL_IN} marks what only you know.",
        *textwrap.wrap(
            verdict(found), 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        ),
        *_caveats(found),
        "version: 1",
        f"name: {workload.name}",
        *_job(workload),
        "storage: runs                    # a folder, or any pyarrow.fs URI",
        "",
        *_data(found),
        "",
        *_training(found),
        *_inference(found),
        *_coordination(found),
    ]
    return "\n".join(lines) + "\n"


def _caveats(found: Design) -> Iterator[str]:
    for text in found.unmet:
        yield f"# UNMET: {text}"
    choice, sizing = found.final.choice, found.final.sizing
    largest = max(
        (pool.num_devices for pool in (sizing.training, sizing.serving) if pool), default=0
    )
    if largest > LARGEST_COUNT:
        yield f"# The design has {largest:,} of them; a plan asks for {LARGEST_COUNT:,} at most."
    if choice.collective == "local-update":
        yield (
            f"# The design averages models every {choice.local_steps:,} steps between "
            f"{parties_apart(found.workload)} parties; a plan"
        )
        yield "# synchronises every step as yet, so this one is what a single party would run."
    if found.workload.agents is not None:
        yield "# Agents have no section in a plan as yet; this one trains what each carries."


def _job(workload: Workload) -> Iterator[str]:
    language = bool(workload.serving and workload.serving.tokens) or bool(
        workload.model and workload.model.layers
    )
    target = "jobs.gpt:GPT" if language else "jobs.digits:Digits"
    yield f"job: {target:<27} # {FILL_IN}: module:Class of your Job"


def _data(found: Design) -> Iterator[str]:
    sizing = found.final.sizing
    yield "data:"
    if "gpt" in next(_job(found.workload)):
        yield f'  source: {{kind: text, path: "python:stdlib", glob: "**/*.py"}}   # {FILL_IN}'
    else:
        yield f'  source: {{kind: python, target: "jobs.digits:dataset"}}   # {FILL_IN}'
    machines = sizing.data_machines
    shards = max(8, machines, sizing.training.num_machines if sizing.training else 1)
    yield f"  shards: {shards}"
    if machines > 1 and not sizing.index_machines and parties_apart(found.workload) == 1:
        yield f"  tasks: {machines:<26} # one a machine, {machines} machines"


def _training(found: Design) -> Iterator[str]:
    workload, pool = found.workload, found.final.sizing.training
    yield "training:"
    if workload.training is None or pool is None:
        yield f"  workers: 1                     # {FILL_IN}: a plan trains what it serves; the"
        yield "                                 # workload says nothing of training"
        return
    pool = _of_one_party(pool)
    copies = counted(pool.replicas, "replica")
    yield f"  workers: {pool.num_devices:<22} # {copies} of {counted(pool.split, 'worker')}"
    yield f"  resources: {{cpu: 1, gpu: {1 if workload.machine.devices else 0}}}"
    batch, note = _batch(workload.training.batch, pool)
    yield f"  global_batch: {batch:<17} # {note}"
    steps = num_steps(workload.training)
    yield f"  steps: {steps:<24} # samples · epochs / batch of the workload"
    yield ""
    yield f"model: {{replicate: {pool.replicas}, shard: {pool.split}}}"


def _of_one_party(pool: Pool) -> Pool:
    """What one domain runs, and no more than a plan may ask for."""
    split = min(pool.split, LARGEST_COUNT)
    replicas = min(pool.replicas // pool.parties, LARGEST_COUNT // split)
    return Pool(replicas, split, pool.per_machine)


def _batch(batch: float, pool: Pool) -> tuple[int, str]:
    """Samples of a step that all ranks share evenly."""
    ranks = pool.num_devices
    if batch > _LARGEST_BATCH:
        return 2 * ranks, f"{FILL_IN}: {batch:,.0f} tokens in sequences, a multiple of {ranks}"
    even = max(1, round(batch / ranks)) * ranks
    even_for = f"a multiple of {ranks}, so that every worker gets the same"
    return even, even_for if ranks > 1 else "samples of one step"


def _inference(found: Design) -> Iterator[str]:
    workload, pool = found.workload, found.final.sizing.serving
    if workload.serving is None or pool is None:
        return
    machine = workload.machine
    yield ""
    yield "inference:"
    yield f"  replicas: {min(pool.replicas, LARGEST_COUNT)}"
    if machine.devices:
        held = min(pool.split, machine.devices)
        spans = f" # of {pool.split}: a replica spans machines" if held < pool.split else ""
        yield f"  resources: {{cpu: 1, gpu: {held}}}{spans}"
    else:
        yield f"  resources: {{cpu: {machine.cores}}}"
    if workload.serving.latency is not None:
        yield f"  slo: {{p99: {format_duration(workload.serving.latency)}}}"
    yield f"  promote: {{metric: val_loss, mode: min}}   # {FILL_IN}: which checkpoint is served"


def _coordination(found: Design) -> Iterator[str]:
    tax, training = found.final.taxes.training, found.workload.training
    if tax is None or training is None or tax.step.pool.num_devices == 1:
        return
    every = round(min(tax.typical.interval_seconds / tax.step.seconds, tax.num_steps))
    yield ""
    yield "coordination:"
    yield f"  checkpoint: {{every: {max(1, every)}}}   # steps; Daly's optimum"
