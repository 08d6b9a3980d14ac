"""The model axis: how one model is laid over the workers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from orchestrator.plan.refusal import Refusal
from orchestrator.plan.section import Section
from orchestrator.plan.wording import show


def parse_degree(value: Any) -> Any:
    """A whole number from 1, or -1 for the rest of the world. Raises ``Refusal`` otherwise."""
    if type(value) is int and (value == -1 or value >= 1):
        return value
    raise Refusal(
        "expected a degree: a whole number from 1, or -1 for the rest of the workers, "
        f"not {show(value)}",
        works="1 (not split along this dimension)",
    )


Degree = Annotated[
    int,
    BeforeValidator(parse_degree),
    WithJsonSchema({"anyOf": [{"const": -1}, {"type": "integer", "minimum": 1}]}),
]
"""How many ways the mesh is split along a dimension; ``-1``: all that the others leave."""


class Model(Section):
    """Degrees of the device mesh; their product (without ``expert``) is K. ``-1``: the rest."""

    replicate: Degree = -1
    """dp: copies of the whole model that share the batch (DDP). The default takes the rest of
    the workers, or is 1 where another degree is -1."""
    shard: Degree = 1
    """fsdp: ranks over which parameters, gradients and optimizer state are sharded."""
    tensor: Degree = 1
    """tp: ranks over which each layer's matrices are split."""
    pipeline: Degree = 1
    """pp: stages the layers are cut into."""
    context: Degree = 1
    """cp: ranks over which a sequence is split."""
    expert: Annotated[int, Field(ge=1)] = 1
    """ep: ranks over which experts are spread; reuses ranks of dp, fsdp and cp."""
    pipeline_schedule: Literal["gpipe", "1f1b", "interleaved-1f1b"] = "1f1b"
    """The order of micro-batches in a pipeline."""
    virtual_stages: Annotated[int, Field(ge=1)] = 2
    """Stages that each pipeline rank holds, with the interleaved schedule."""
    activation_checkpoint: Literal["none", "selective", "full"] = "none"
    """What the backward pass computes again instead of keeping: nothing; all but the results of
    matrix products and attention; or each block whole. Changes memory and speed alone."""

    @model_validator(mode="before")
    @classmethod
    def _one_rest(cls, value: Any) -> Any:
        # `model: {shard: -1}` leaves nothing over for the default of replicate to take.
        if isinstance(value, dict) and "replicate" not in value and -1 in value.values():
            return {"replicate": 1, **value}
        return value
