"""The inference axis: replicas of the trained model behind one HTTP address."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.plan.counts import CountOrRange, Span
from orchestrator.plan.quantities import Deadline, Seconds
from orchestrator.plan.resources import Resources
from orchestrator.plan.section import Section


class Slo(Section):
    """What a client may count on; measured and reported, not yet acted upon."""

    p99: Deadline | None = None
    """99 of 100 requests are answered within this time."""


class Gate(Section):
    """A bound on a metric that a checkpoint must meet to be served."""

    metric: str = "val_loss"
    """A metric of evaluation, such as ``val_loss`` or ``val_accuracy``."""
    below: float | None = None
    """The metric must be lower than this."""
    above: float | None = None
    """The metric must be higher than this."""


class Promote(Section):
    """Which checkpoint is served: the best by a metric, if it passes the gate."""

    metric: str = "val_loss"
    """The metric that ranks checkpoints."""
    mode: Literal["min", "max"] = "min"
    """Whether a smaller or a larger metric is better."""
    when: Gate | None = None
    """The gate; without one the best checkpoint is always served."""


class Inference(Section):
    """Serves the promoted checkpoint with Ray Serve under ``/<name>``."""

    replicas: CountOrRange = Span(min=1, max=1)
    """How many replicas, or ``[min, max]`` for autoscaling on ongoing requests."""
    resources: Resources = Resources()
    """What one replica occupies."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address Serve's proxy listens on."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """The port Serve's proxy listens on."""
    token: str | None = None
    """A bearer token that every request must carry, as a reference: ``${env:NAME}`` or
    ``${file:/path}``. Without one, whoever reaches the port is answered."""
    max_batch_size: Annotated[int, Field(ge=1)] = 8
    """Requests answered in one call of ``Job.answer``."""
    batch_wait_timeout: Seconds = 0.002
    """How long a request waits for others to share its batch."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 64
    """Requests one replica holds before others are preferred."""
    slo: Slo = Slo()
    """What a client may count on."""
    promote: Promote = Promote()
    """Which checkpoint is served."""
    example: Any = None
    """A JSON request sent once the app is up; its answer is printed."""
    timeout: Deadline = 120.0
    """How long the app may take to become ready, and a request to be answered."""
