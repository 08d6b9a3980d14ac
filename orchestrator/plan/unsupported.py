"""What does this version plan and check, but not yet carry out?

``axis plan`` warns of it; ``axis run`` refuses.
"""

from __future__ import annotations

from orchestrator.plan.mesh import SHORT_NAMES, resolve_mesh
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers


def unsupported(plan: Plan) -> tuple[str, ...]:
    """One sentence for each thing of the plan that this version cannot carry out.

    Judged at the largest legal number of workers; a plan without one has other problems.
    """
    legal = legal_workers(plan)
    if not legal:
        return ()
    mesh = resolve_mesh(plan.model, legal[-1])
    found = []
    for name, short in SHORT_NAMES.items():
        if name == "replicate" or getattr(mesh, name) == 1:
            continue
        asked = getattr(plan.model, name)
        resolved = f" ({getattr(mesh, name)} of {legal[-1]} workers)" if asked == -1 else ""
        found.append(
            f"model.{name}={asked}{resolved} ({short}) is planned and checked, but this version "
            "trains with model.replicate alone"
        )
    return tuple(found)
