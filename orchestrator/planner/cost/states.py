"""How many bytes do parameters, gradients and optimizer states take on one rank?

The accounting of ZeRO (Rajbhandari et al. 2020, section 3): 2 bytes of working weights, 2 of
gradients, 12 of fp32 master weights and two moments for each parameter in mixed precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.planner.cost.case import Case, Optimizer, Precision, Sharding
from orchestrator.planner.cost.parameters import StageParameters


@dataclass(frozen=True, slots=True)
class States:
    """Bytes on one rank."""

    parameters: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All three."""
        return self.parameters + self.gradients + self.optimizer


def state_bytes(
    parameters: float,
    ranks: int,
    sharding: Sharding,
    precision: Precision = "bf16",
    optimizer: Optimizer = "adamw",
) -> States:
    """States of ``parameters`` parameters whose data group has ``ranks`` ranks.

    In mixed precision with AdamW: 16P unsharded, 4P + 12P/N with sharded optimizer states,
    2P + 14P/N with gradients too, 16P/N with all (ZeRO, table 1).
    """
    mixed = precision != "fp32"
    weight = 2 if mixed else 4
    moments = 8 if optimizer == "adamw" else 4
    kept = moments + (4 if mixed else 0)
    shards = {"none": 0, "optimizer": 1, "gradients": 2, "full": 3}[sharding]
    return States(
        parameters * weight / (ranks if shards >= 3 else 1),
        parameters * weight / (ranks if shards >= 2 else 1),
        parameters * kept / (ranks if shards >= 1 else 1),
    )


def stage_states(case: Case, held: StageParameters) -> States:
    """States of one rank; routed experts are repeated by fewer ranks when ep splits them."""
    work, degrees = case.work, case.degrees
    group = degrees.shard_group
    shared = state_bytes(held.shared, group, work.sharding, work.precision, work.optimizer)
    if not held.experts:
        return shared
    repeated = max(1, group // degrees.ep)
    experts = state_bytes(held.experts, repeated, work.sharding, work.precision, work.optimizer)
    return States(
        shared.parameters + experts.parameters,
        shared.gradients + experts.gradients,
        shared.optimizer + experts.optimizer,
    )


def gradient_element_bytes(precision: Precision) -> int:
    """Bytes of one gradient element on the wire: bf16 and fp8 training reduce in fp32.

    Megatron-Core ``accumulate_allreduce_grads_in_fp32`` and FSDP2 ``reduce_dtype`` default to
    it; fp16 training reduces what it has.
    """
    return 2 if precision == "fp16" else 4
