"""What one worker, task or replica occupies, in Ray's words."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from orchestrator.plan.quantities import Bytes
from orchestrator.plan.section import Section
from orchestrator.plan.selectors import parse

Count = Annotated[float, Field(ge=0)]


def _selector(value: Any) -> Any:
    if isinstance(value, str):
        parse(value)
    return value


Expression = Annotated[str, BeforeValidator(_selector)]


class Resources(Section):
    """Logical resources of one worker, task or replica (Ray's ``num_cpus``, ``num_gpus``, …)."""

    cpu: Count = 1.0
    """Logical CPUs; a fraction lets several share a core."""
    gpu: Count = 0.0
    """GPUs."""
    memory: Bytes = 0
    """Memory Ray sets aside for scheduling; 0 leaves it unreserved."""
    custom: dict[str, Count] = {}
    """Further resources by the name the cluster gives them."""

    label_selector: dict[str, Expression] = {}
    """Labels that a node must have, as Ray selects them: ``value``, ``!value``, ``in(a, b)`` or
    ``!in(a, b)``."""

    def as_ray(self) -> dict[str, float]:
        """The bundle as Ray spells it, without the zero entries."""
        named = {"CPU": self.cpu, "GPU": self.gpu, "memory": float(self.memory)}
        return {name: count for name, count in {**named, **self.custom}.items() if count > 0}
