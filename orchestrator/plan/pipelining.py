"""How many micro-batches does a pipeline schedule take, and how many stages has it?

Plain integers. The rules are those of the schedules of ``torch.distributed.pipelining``; one that
breaks them is refused before workers start, with the arithmetic.
"""

from __future__ import annotations

from typing import Literal

Schedule = Literal["gpipe", "1f1b", "interleaved-1f1b"]
"""The order of forward and backward passes of micro-batches: all forward and then all backward
(Huang et al. 2019); one backward for each forward, as soon as there is one (Narayanan et al.
2019); the same with several stages on each rank (Narayanan et al. 2021)."""


def stages_per_rank(schedule: Schedule, virtual_stages: int) -> int:
    """How many stages each pipeline rank holds: ``virtual_stages`` if interleaved, else one."""
    return virtual_stages if schedule == "interleaved-1f1b" else 1


def num_stages(schedule: Schedule, pipeline: int, virtual_stages: int) -> int:
    """How many stages the model is cut into; it needs at least as many blocks."""
    return pipeline * stages_per_rank(schedule, virtual_stages)


def microbatch_problem(
    schedule: Schedule, pipeline: int, virtual_stages: int, micro_batches: int
) -> str | None:
    """Why ``schedule`` cannot take ``micro_batches`` in one step, in one sentence; or ``None``.

    ``gpipe`` takes any number. ``1f1b`` takes at least as many as there are stages. The
    interleaved schedule takes them in rounds of equal size, ``n // pipeline`` rounds of them or
    one, so that ``n`` must be a multiple of the number of rounds. Raises ``ValueError`` for
    degrees below 1.
    """
    if min(pipeline, virtual_stages) < 1:
        raise ValueError(f"degrees are at least 1, not {pipeline} and {virtual_stages}")
    if micro_batches < 1:
        return f"a pipeline needs at least one micro-batch, not {micro_batches}"
    if pipeline == 1 or schedule == "gpipe":
        return None
    if schedule == "1f1b":
        return _too_few(pipeline, micro_batches)
    return _uneven_rounds(pipeline, virtual_stages, micro_batches)


def nearest_microbatches(
    schedule: Schedule, pipeline: int, virtual_stages: int, micro_batches: int
) -> tuple[int, ...]:
    """The numbers of micro-batches nearest to ``micro_batches`` that the schedule takes: itself,
    or one below and one above where they exist, ascending."""

    def legal(number: int) -> bool:
        return microbatch_problem(schedule, pipeline, virtual_stages, number) is None

    if legal(micro_batches):
        return (micro_batches,)
    below = next((n for n in range(micro_batches - 1, 0, -1) if legal(n)), None)
    # A multiple of the pipeline's degree is always legal, so this ends.
    above = max(1, micro_batches + 1)
    while not legal(above):
        above += 1
    return (above,) if below is None else (below, above)


def _too_few(pipeline: int, micro_batches: int) -> str | None:
    if micro_batches >= pipeline:
        return None
    return (
        "1f1b needs at least as many micro-batches as stages, but there are "
        f"{micro_batches} for {pipeline} stages"
    )


def _uneven_rounds(pipeline: int, virtual_stages: int, micro_batches: int) -> str | None:
    rounds = max(1, micro_batches // pipeline)
    size, left = divmod(micro_batches, rounds)
    if left == 0:
        return None
    return (
        f"interleaved-1f1b on {pipeline} ranks with {virtual_stages} stages each takes "
        f"micro-batches in {micro_batches} // {pipeline} = {rounds} equal rounds, "
        f"but {micro_batches} = {rounds}·{size} + {left}"
    )
