"""What is to be designed? A workload in a person's own numbers, before any decision.

It says how much there is and how soon it is wanted, never how to distribute it. An absent section
is not part of the system.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.plan.names import RunName
from orchestrator.plan.quantities import Bytes, Deadline, Seconds
from orchestrator.planner.design.machine import Link, Machine, Part
from orchestrator.planner.design.quantities import ByteRate, Count, Positive
from orchestrator.planner.failure import RESTART_SECONDS

Mode = Literal["batch", "streaming", "online", "interactive"]
Metric = Literal["throughput", "latency", "cost", "reliability"]
Share = Annotated[float, Field(ge=0, lt=1)]


class Process(Part):
    """A pass over the data that is not training: clean, deduplicate, tokenise, join."""

    rate: ByteRate
    """Bytes that one machine processes in a second, measured on a sample."""
    window: Deadline
    """When it has to be done."""
    passes: Positive = 1.0
    """How often all bytes are read."""
    shuffle: Annotated[float, Field(ge=0)] = 0.0
    """Bytes that change machines per byte read: 1 if every record is sent to another machine."""


class Data(Part):
    """The records: how many bytes, growing how fast, and where they may go."""

    size: Bytes
    """Bytes of all records."""
    growth_per_day: Bytes = 0
    """Bytes that come in a day."""
    horizon: Seconds = 365 * 86_400.0
    """How long the design is to last: it is made for size + growth · horizon."""
    access: Literal["scan", "random"] = "scan"
    """``scan``: read in order, from disk. ``random``: looked up, so it has to lie in memory."""
    may_leave: bool = True
    """Whether records may leave the trust domain that they are in."""
    process: Process | None = None
    """What is done with them before training, if that takes long."""


class Model(Part):
    """The model: how many parameters, and what they weigh."""

    parameters: Positive
    """P: all parameters."""
    active_parameters: Positive | None = None
    """Parameters that one sample is multiplied with, if fewer: mixture of experts."""
    sparse_parameters: Count = 0.0
    """Of all parameters, those in embedding tables: looked up, not multiplied."""
    sparse_bytes_per_sample: Bytes = 0
    """Bytes of embeddings that one sample looks up, there and back."""
    expert_bytes_per_sample: Bytes = 0
    """Of a mixture of experts over several devices: bytes that one training sample (a token) sends
    in a step, to its experts and back, forward and backward: 4 · layers · topk · hidden · 2
    (Lepikhin et al. 2020)."""
    bytes_per_parameter: Positive = 2.0
    """When serving, and of a gradient that is exchanged: 2 in half precision."""
    training_bytes_per_parameter: Positive = 16.0
    """Weights, gradients and optimizer state: 16 for AdamW in mixed precision (ZeRO,
    arXiv:1910.02054)."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """Layers; needed to count the exchanges of a served model that is split."""


class Training(Part):
    """The training that is wanted, and by when."""

    samples: Positive
    """Samples (tokens, images, rows) of one epoch."""
    epochs: Positive = 1.0
    """Passes over them."""
    deadline: Deadline
    """When the model has to be there."""
    flops_per_sample: Positive | None = None
    """FLOP of forward and backward; 6 · active dense parameters where it is not given."""
    measured: Deadline | None = None
    """What one machine takes for the whole training, if that was measured: worth more than FLOP."""
    batch: Positive = 256.0
    """B: samples of one optimizer step."""
    overlap: Share = 0.0
    """The share of compute time behind which communication is hidden; 0 hides nothing."""
    continuous: bool = False
    """Whether the model learns from each example as it comes."""


class Tokens(Part):
    """Requests that are answered token by token."""

    prompt: Positive
    """Tokens of a prompt."""
    output: Positive
    """Tokens of an answer."""
    first: Deadline
    """Budget for the first token."""
    each: Deadline
    """Budget for each token after it."""
    state_per_token: Bytes
    """Key-value cache of one token, over all layers."""
    max_batch: Annotated[int, Field(ge=1)] = 256
    """Requests that one replica answers at the same time, at most."""


class Serving(Part):
    """The requests that are to be answered."""

    requests_per_second: Positive
    """At the peak."""
    latency: Deadline | None = None
    """Budget for the whole answer, at the 99th percentile."""
    lookups: Annotated[int, Field(ge=0)] = 0
    """Look-ups in another service that a request makes, one after the other."""
    lookup_latency: Seconds = 0.0
    """Time of one look-up."""
    compute: Deadline | None = None
    """Computing one answer, on one core or one accelerator."""
    requests_per_machine: Positive | None = None
    """Requests per second that one machine was measured to answer: worth more than ``compute``."""
    tokens: Tokens | None = None
    """For a language model, in place of ``latency`` and ``compute``."""
    shards_touched: Literal["one", "all"] = "one"
    """Whether a request needs one shard of the data or all of them, where data is sharded."""
    utilization: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """How busy replicas may be at the peak: tails grow as 1 / (1 - utilization)."""


class Agents(Part):
    """Those who decide for themselves."""

    population: Annotated[int, Field(ge=1)]
    """How many."""
    decisions_per_second: Positive
    """Decisions of one agent."""
    compute: Deadline
    """Computing one decision on one core."""
    peers: Annotated[int, Field(ge=0)] | None = None
    """Others that one agent talks to; all of them where it is not given."""
    messages_per_second: Count = 1.0
    """Messages of one agent to one peer."""
    message: Bytes = 200
    """Bytes of a message."""
    reaction: Deadline | None = None
    """Time from perceiving to acting."""
    alone: bool = False
    """Whether an agent has to act while it is cut off from all others."""
    channel: Link | None = None
    """What they talk over, if it is shared, such as one radio channel."""


class Trust(Part):
    """Who may hold what."""

    domains: Annotated[int, Field(ge=1)] = 1
    """Parties that do not share records with each other."""
    link: Link | None = None
    """Between two of them, usually the internet."""


class Failure(Part):
    """What breaks, and what has to go on then."""

    rate: Positive | None = None
    """Failures per 1000 node-days; the range of published fleets where it is not given."""
    checkpoint: Deadline | None = None
    """Time to save the training state; state / disk_rate where it is not given."""
    restart: Seconds = RESTART_SECONDS
    """From a failure to the next useful step."""
    repair: Seconds = 86_400.0
    """Until a failed machine is back."""
    sites: Annotated[int, Field(ge=1)] = 1
    """Regions that the system runs in."""
    survive: Literal["nothing", "machine", "site"] = "nothing"
    """The largest thing that may fail while the system goes on."""


class Workload(Part):
    """One system to be designed."""

    version: Literal[1] = 1
    """The version of this format."""
    name: Annotated[RunName, Field(examples=["fraud-scoring"])]
    """Lower-case letters, digits and dashes; the plan that is written gets it too."""
    title: str = ""
    """What it is, in a few words."""
    machine: Machine = Machine()
    """One machine of the kind that you would use."""
    data: Data | None = None
    """The records."""
    model: Model | None = None
    """The model."""
    training: Training | None = None
    """The training that is wanted."""
    serving: Serving | None = None
    """The requests that are to be answered."""
    agents: Agents | None = None
    """Those who decide for themselves."""
    trust: Trust = Trust()
    """Who may hold what."""
    failure: Failure = Failure()
    """What breaks."""
    coordinator_rate: Positive = 100_000.0
    """Requests or messages per second that one coordinator (a load balancer, a head) carries."""
    freshness: Mode | None = None
    """The processing mode, if the product dictates it; else it follows from the rest."""
    objective: Metric | None = None
    """The metric to optimise, if it is decided; else it follows from the mode."""
    budget_per_month: Positive | None = None
    """What it may cost in 30 days, in the currency of ``machine.price_per_hour``."""
