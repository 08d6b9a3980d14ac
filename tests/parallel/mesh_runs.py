"""Runs of the small GPT on a mesh, and what must be the same on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from gloo_gang import Gang
from small_runs import GPT, plan_of

from orchestrator.job_import import load_job
from orchestrator.parallel.checkpoint import load_model
from orchestrator.plan.mesh import SHORT_NAMES, Mesh
from orchestrator.storage import Storage

LOSSES, NORMS, PARAMETERS = 1e-4, 1e-3, 1e-3
"""Relative, over 20 steps in float32."""


REQUIRED = (
    Mesh(replicate=4),
    Mesh(shard=4),
    Mesh(replicate=2, shard=2),
    Mesh(tensor=2, shard=2),
    Mesh(pipeline=2, replicate=2),
    Mesh(tensor=2, pipeline=2),
    Mesh(context=2, replicate=2),
    Mesh(tensor=2, pipeline=2, shard=2),
)


@dataclass(frozen=True)
class Outcome:
    """What is compared of a run."""

    losses: Sequence[float]
    norms: Sequence[float]
    metrics: Mapping[str, float]
    parameters: Mapping[str, np.ndarray[Any, Any]]


def overrides(of: Mesh, *more: str) -> tuple[str, ...]:
    degrees = [f"model.{name}={getattr(of, name)}" for name in SHORT_NAMES]
    return (*degrees, f"training.workers={of.size}", "training.micro_batch=2", *more)


def train_on(
    gang: Gang, of: Mesh, store: str, run: str, text: str = GPT, more: tuple[str, ...] = ()
) -> Outcome:
    """Twenty steps on a mesh; every rank must tell the same."""
    ranks = gang.run("train_case", of.size, text, overrides(of, *more), store, run)
    first = ranks[0]
    for rank in ranks:
        assert rank["losses"] == first["losses"]
        assert rank["norms"] == first["norms"]
        assert rank["evaluations"][-1]["metrics"] == first["evaluations"][-1]["metrics"]
    plan = plan_of(text, *overrides(of, *more))
    model, _ = load_model(load_job(plan), Storage.open(run).child(first["result"].checkpoint))
    parameters = {name: p.detach().numpy() for name, p in model.named_parameters()}
    return Outcome(first["losses"], first["norms"], first["result"].metrics, parameters)


def difference(one: Outcome, other: Outcome) -> tuple[float, float, float]:
    """The largest relative differences of losses, norms and parameters (of each one's largest)."""
    losses = np.max(np.abs(np.array(one.losses) / np.array(other.losses) - 1))
    norms = np.max(np.abs(np.array(one.norms) / np.array(other.norms) - 1))
    assert one.parameters.keys() == other.parameters.keys()
    parameters = max(
        np.max(np.abs(value - other.parameters[name])) / np.max(np.abs(other.parameters[name]))
        for name, value in one.parameters.items()
    )
    return float(losses), float(norms), float(parameters)


def check_same(one: Outcome, other: Outcome, record: Callable[[str, Any], None]) -> None:
    losses, norms, parameters = difference(one, other)
    for name, value in (("losses", losses), ("norms", norms), ("parameters", parameters)):
        record(name, f"{value:.1e}")
    print(f"relative: losses {losses:.1e}, norms {norms:.1e}, parameters {parameters:.1e}")
    assert losses <= LOSSES
    assert norms <= NORMS
    assert parameters <= PARAMETERS
    assert one.metrics == pytest.approx(other.metrics, rel=LOSSES)
