"""Do the axes of a plan fit together?

Pure checks, each from a plan to problems with the arithmetic and the nearest values that work.
They look neither at files nor at a cluster, and every one runs even if others fail.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from orchestrator.errors import Problem
from orchestrator.plan.data import PythonSource
from orchestrator.plan.mesh import two_rests
from orchestrator.plan.plan import Plan
from orchestrator.plan.promotion import check_promotion
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.resources import Resources
from orchestrator.plan.secret_checks import RESOLVED, check_references, check_token
from orchestrator.plan.sizes import (
    fillable,
    legal_workers,
    nearest_ranges,
    why_not,
)
from orchestrator.plan.wording import choice

_MOST_REASONS = 3
STDLIB = "python:stdlib"
"""The one path of scheme ``python:``: the sources of the standard library."""


@dataclass(frozen=True)
class Check:
    """A question about a plan, and the fields that its answer depends on."""

    reads: tuple[str, ...]
    find: Callable[[Plan], Iterator[Problem]]


def check_plan(plan: Plan, doubtful: Collection[str] = ()) -> tuple[Problem, ...]:
    """Everything that is wrong across the axes of ``plan``.

    ``doubtful`` holds the dotted paths whose values are not what the user meant; checks that
    read them are left out.
    """
    return tuple(
        problem
        for check in CHECKS
        if not any(_overlap(read, path) for read in check.reads for path in doubtful)
        for problem in check.find(plan)
    )


def check_rest(plan: Plan) -> Iterator[Problem]:
    """At most one degree of the mesh is the rest of the workers."""
    refusal = two_rests(plan.model)
    if refusal is not None:
        yield refusal.problem(_blame(refusal))


def check_mesh(plan: Plan) -> Iterator[Problem]:
    """There is a mesh for some number of workers within the range."""
    if two_rests(plan.model) is None and not fillable(plan):
        yield _no_count(plan, "fills the mesh", batch_matters=False)


def check_batch(plan: Plan) -> Iterator[Problem]:
    """Some number of workers that fills the mesh shares the batch evenly."""
    if two_rests(plan.model) is not None or legal_workers(plan):
        return
    if fillable(plan):
        yield _no_count(plan, "fits the mesh and the batch", batch_matters=True)


def _no_count(plan: Plan, aim: str, batch_matters: bool) -> Problem:
    """No number of workers within the range does what is asked: why not, and which would."""
    workers = plan.training.workers
    counts = {*range(workers.min, min(workers.max, workers.min + _MOST_REASONS)), workers.max}
    refusals = [(count, said) for count in sorted(counts) if (said := why_not(plan, count))]
    if not workers.elastic:
        (_, refusal), *_ = refusals
        return refusal.problem(_blame(refusal))
    reasons = [f"{count}: {said.arithmetic or said.what}" for count, said in refusals]
    if len(counts) < workers.max - workers.min + 1:
        reasons.insert(-1, "…")
    wider = [f"[{low}, {high}]" for low, high in nearest_ranges(plan, batch_matters)]
    return Problem(
        "training.workers",
        f"no number of workers from {workers.min} to {workers.max} {aim}",
        "; ".join(reasons),
        f"training.workers={choice(wider)}" if wider else refusals[-1][1].works,
    )


def check_paths(plan: Plan) -> Iterator[Problem]:
    """``python:`` is not a file system: only ``python:stdlib`` means something, for text."""
    source = plan.data.source
    if isinstance(source, PythonSource) or not source.path.startswith("python:"):
        return
    if source.kind != "text":
        yield Problem(
            "data.source.path",
            f"{source.path} holds text files, but the kind is {source.kind}",
            works=f"kind: text with path: {STDLIB}",
        )
    elif source.path != STDLIB:
        yield Problem(
            "data.source.path",
            f'there is no path "{source.path}"; {STDLIB} is the only one of its scheme',
            works=STDLIB,
        )


def check_keywords(plan: Plan) -> Iterator[Problem]:
    """Options and arguments become keyword arguments, so their names must be identifiers."""
    named = [("options", plan.options, "the Job's constructor")]
    if isinstance(plan.data.source, PythonSource):
        arguments = plan.data.source.arguments
        named.append(("data.source.arguments", arguments, plan.data.source.target))
    for where, values, whose in named:
        for key in values:
            if not key.isidentifier():
                suggested = "".join(c if c.isalnum() else "_" for c in key)
                yield Problem(
                    f"{where}.{key}",
                    f'"{key}" cannot be the name of an argument of {whose}',
                    works=suggested if suggested.isidentifier() else "",
                )


def check_data_resources(plan: Plan) -> Iterator[Problem]:
    """What a data task occupies can be reserved."""
    return _check_bundle("data.resources", plan.data.resources)


def check_worker_resources(plan: Plan) -> Iterator[Problem]:
    """What a training worker occupies can be reserved."""
    return _check_bundle("training.resources", plan.training.resources)


def check_replica_resources(plan: Plan) -> Iterator[Problem]:
    """What a replica occupies can be reserved."""
    if plan.inference is None:
        return iter(())
    return _check_bundle("inference.resources", plan.inference.resources)


def _check_bundle(where: str, resources: Resources) -> Iterator[Problem]:
    """Ray reserves no empty bundle, and no fraction of a GPU besides whole ones."""
    if not resources.as_ray():
        yield Problem(where, "reserves nothing at all", works=f"{where}.cpu=0.5")
    low = int(resources.gpu)
    if resources.gpu > 1 and resources.gpu != low:
        yield Problem(
            f"{where}.gpu",
            f"{resources.gpu:g} GPUs: above one, Ray gives whole GPUs only",
            works=f"{low} or {low + 1}",
        )
    for name in sorted({"CPU", "GPU", "memory"} & set(resources.custom)):
        yield Problem(
            f"{where}.custom.{name}",
            f"{name} has a field of its own",
            works=f"{where}.{name.lower()}",
        )


def check_serving_batch(plan: Plan) -> Iterator[Problem]:
    """A replica must hold as many requests as it answers at once."""
    serving = plan.inference
    if serving is None or serving.max_ongoing_requests >= serving.max_batch_size:
        return
    yield Problem(
        "inference.max_ongoing_requests",
        "a replica that holds fewer requests than a batch takes never fills one",
        f"max_ongoing_requests {serving.max_ongoing_requests} < "
        f"max_batch_size {serving.max_batch_size}",
        f"inference.max_ongoing_requests={serving.max_batch_size} or more, or "
        f"inference.max_batch_size={serving.max_ongoing_requests} or less",
    )


CHECKS = (
    Check(("model",), check_rest),
    Check(("training.workers", "model"), check_mesh),
    Check(
        ("training.workers", "model", "training.global_batch", "training.micro_batch"), check_batch
    ),
    Check(("data.source",), check_paths),
    Check(("options", "data.source"), check_keywords),
    Check(("data.resources",), check_data_resources),
    Check(("training.resources",), check_worker_resources),
    Check(("inference.resources",), check_replica_resources),
    Check(("inference.promote", "training.evaluate", "data.holdout"), check_promotion),
    Check(("inference.max_ongoing_requests", "inference.max_batch_size"), check_serving_batch),
    Check(RESOLVED, check_references),
    Check(("inference.token",), check_token),
)
"""All checks across the axes."""


def _overlap(one: str, other: str) -> bool:
    """Whether one of two dotted paths holds the other, or they are the same."""
    if not one or not other:
        return True
    shorter, longer = sorted((one, other), key=len)
    return longer == shorter or longer.startswith(f"{shorter}.")


def _blame(refusal: Refusal) -> str:
    """The field that the first of the ways out changes."""
    return refusal.works.partition("=")[0] or "training.workers"
