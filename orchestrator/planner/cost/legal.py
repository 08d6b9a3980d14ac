"""Can a case be meant at all? Divisibility and bounds, each with its arithmetic.

Whether it fits in memory is another question: that one has a number for an answer.
"""

from __future__ import annotations

from orchestrator.errors import Problem
from orchestrator.planner.cost.case import Case


def case_problems(case: Case) -> list[Problem]:
    """Everything that makes ``case`` impossible, in the order of the specification."""
    return [*_model(case), *_tensor(case), *_pipeline(case), *_batch(case), *_expert(case)]


def _divides(where: str, degree: int, what: str, count: int) -> list[Problem]:
    if count % degree == 0:
        return []
    arithmetic = f"{count} = {degree}·{count // degree} + {count % degree}"
    fitting = [d for d in range(1, count + 1) if count % d == 0]
    below = max(d for d in fitting if d < degree) if degree > 1 else 1
    above = [d for d in fitting if d > degree][:1]
    works = " or ".join(str(d) for d in [below, *above])
    return [Problem(where, f"{degree} does not divide {what}", arithmetic, works)]


def _model(case: Case) -> list[Problem]:
    shape = case.shape
    found: list[Problem] = []
    if not shape.head_dim:
        found += _divides("model.heads", shape.heads, "model.hidden", shape.hidden)
    found += _divides("model.kv_heads", shape.kv_heads, "model.heads", shape.heads)
    if shape.topk > shape.experts:
        what = f"each token would pass {shape.topk} of {shape.experts} experts"
        found.append(Problem("model.topk", what, works=str(shape.experts)))
    return found


def _tensor(case: Case) -> list[Problem]:
    tp, shape = case.degrees.tp, case.shape
    found = _divides("mesh.tp", tp, "model.heads", shape.heads)
    width = shape.expert_ffn if shape.experts else shape.ffn
    return found + _divides("mesh.tp", tp, "the feed-forward width", width)


def _pipeline(case: Case) -> list[Problem]:
    work, pp, layers = case.work, case.degrees.pp, case.shape.layers
    chunks = pp * work.virtual_stages
    found: list[Problem] = []
    if chunks > layers:
        what = f"{chunks} pipeline chunks need at least as many layers; the model has {layers}"
        arithmetic = f"pp {pp} · virtual_stages {work.virtual_stages} = {chunks} > {layers}"
        found.append(Problem("mesh.pp", what, arithmetic, f"mesh.pp: {min(pp, layers)}"))
    if work.schedule == "interleaved" and pp == 1:
        what = "an interleaved schedule needs at least two pipeline stages"
        found.append(Problem("training.schedule", what, works="1f1b, or mesh.pp: 2"))
    return found


def _batch(case: Case) -> list[Problem]:
    work, degrees = case.work, case.degrees
    found = _divides("mesh.cp", degrees.cp, "training.seq_len", work.seq_len)
    step = degrees.batch * work.micro_batch
    if work.global_batch % step == 0:
        return found
    product = f"dp {degrees.dp} · fsdp {degrees.fsdp} · micro_batch {work.micro_batch} = {step}"
    arithmetic = f"{product}, and {work.global_batch} mod {step} = {work.global_batch % step}"
    what = f"a global batch of {work.global_batch} is not a whole number of micro-batches"
    multiples = {max(1, work.global_batch // step) * step, (work.global_batch // step + 1) * step}
    works = " or ".join(f"global_batch: {count}" for count in sorted(multiples))
    return [*found, Problem("training.global_batch", what, arithmetic, works)]


def _expert(case: Case) -> list[Problem]:
    degrees, shape = case.degrees, case.shape
    if degrees.ep == 1:
        return []
    if not shape.experts:
        what = f"ep {degrees.ep} distributes experts, but the model has none"
        return [Problem("mesh.ep", what, works="mesh.ep: 1")]
    reused = degrees.dp * degrees.fsdp * degrees.cp
    found = _divides("mesh.ep", degrees.ep, "model.experts", shape.experts)
    what = f"dp {degrees.dp} · fsdp {degrees.fsdp} · cp {degrees.cp} = {reused}, which it reuses"
    return found + _divides("mesh.ep", degrees.ep, what, reused)
