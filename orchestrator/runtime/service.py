"""How is a run's promoted checkpoint served by somebody else's Serve, such as KubeRay's?

Serve calls ``application`` with what its configuration says (``import_path``, ``args``) and deploys
what it returns. Nothing is trained, placed or taken down here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import InfeasibleError, PlanError, Problem
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.plan.load import load_plan
from orchestrator.runtime.replica import Charge
from orchestrator.runtime.serving import application_of
from orchestrator.storage import Storage


def application(args: Mapping[str, str]) -> Any:
    """The Serve application of the checkpoint that a run promoted.

    ``args``: ``plan`` is the plan's file on every node; ``storage``, where it is not the plan's.
    Raises ``PlanError`` for a plan without inference, ``InfeasibleError`` where nothing is
    promoted yet.
    """
    loaded = load_plan(args["plan"])
    plan = loaded.plan
    if plan.inference is None:
        problem = Problem("inference", "is missing: the plan serves nothing", works="inference: {}")
        raise PlanError([loaded.locate(problem)], loaded.source)
    run = Storage.open(args.get("storage") or plan.storage).child(plan.name)
    state = replay_state(Journal(run))
    if state.promoted is None:
        raise InfeasibleError(
            f"the run {plan.name} in {run.name} has promoted no checkpoint that could be served\n"
            "  works: carry the plan out first; `axis status` tells how far it is"
        )
    return application_of(
        Charge(plan, run.uri, state.promoted.folder, str(Path.cwd()), state.attempt)
    )
