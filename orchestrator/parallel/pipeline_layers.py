"""Which stages has a rank of a pipeline, and which blocks has a stage?

Plain integers. Stage ``s`` lives on rank ``s % degree``, so that a rank with several stages hands
on to its neighbour, never to itself.
"""

from __future__ import annotations

from orchestrator.plan.pipelining import Schedule, stages_per_rank


def stage_indices(
    pipeline_rank: int, degree: int, schedule: Schedule, virtual_stages: int
) -> tuple[int, ...]:
    """The stages of one rank, ascending: ``rank, rank + degree, …``."""
    if not 0 <= pipeline_rank < degree:
        raise ValueError(f"rank {pipeline_rank} is outside a pipeline of {degree}")
    return tuple(
        pipeline_rank + turn * degree for turn in range(stages_per_rank(schedule, virtual_stages))
    )


def blocks_of(stage: int, num_stages: int, num_blocks: int) -> range:
    """The blocks of a stage: contiguous, and none has two more than another.

    Those that do not divide evenly go to the stages just before the last: the last one has the
    head and the loss besides, and the earlier a stage, the more micro-batches wait in it for
    their backward pass. Raises ``ValueError`` for fewer blocks than stages.
    """
    if not 0 <= stage < num_stages:
        raise ValueError(f"stage {stage} is outside a pipeline of {num_stages} stages")
    if num_blocks < num_stages:
        raise ValueError(f"{num_blocks} blocks cannot fill {num_stages} stages")
    return range(*(_first_block(s, num_stages, num_blocks) for s in (stage, stage + 1)))


def _first_block(stage: int, num_stages: int, num_blocks: int) -> int:
    share, left = divmod(num_blocks, num_stages)
    first_larger = num_stages - 1 - left
    return stage * share + min(left, max(0, stage - first_larger))
