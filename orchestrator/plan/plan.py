"""The axis plan: what was asked for, whole and frozen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.plan.coordination import Coordination
from orchestrator.plan.data import Data
from orchestrator.plan.inference import Inference
from orchestrator.plan.model import Model
from orchestrator.plan.names import RunName, Target
from orchestrator.plan.section import Section
from orchestrator.plan.training import Training


class Plan(Section):
    """One AI workload, described along its axes; an absent axis is not distributed."""

    version: Literal[1] = 1
    """The version of this format."""
    name: Annotated[RunName, Field(examples=["gpt-stdlib"])]
    """Names the run: lower-case letters, digits and dashes. ``storage`` + ``name`` = one run."""
    job: Annotated[Target, Field(examples=["jobs.gpt:GPT"])]
    """The user's Job as ``module:Class``, importable from the working directory."""
    options: dict[str, Any] = {}
    """Keyword arguments of the Job's constructor."""
    storage: Annotated[str, Field(min_length=1)] = "runs"
    """Where runs and sample stores lie: a folder or any ``pyarrow.fs`` URI."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides parameters, sample order and hold-out."""
    data: Annotated[Data, Field(examples=[{"source": {"kind": "text", "path": "corpus"}}])]
    """The data axis: where samples come from and how they are cut into shards."""
    training: Training = Training()
    """The training axis: how many workers step together, and how."""
    model: Model = Model()
    """The model axis: how one model is laid over the workers."""
    inference: Inference | None = None
    """The inference axis; without it nothing is promoted or served."""
    coordination: Coordination = Coordination()
    """The coordination axis: how the run is placed, made durable and restarted."""
