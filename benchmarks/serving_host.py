"""``python -m benchmarks.serving_host PLAN RUN CHECKPOINT``: serves one checkpoint twice.

Once as the orchestrator deploys it, once by hand, behind the same proxy on a cluster of its own.
Prints ``{"axis": url, "by_hand": url}`` and stays up until its standard input ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.by_hand.serve_app import application
from orchestrator.plan.load import load_plan
from orchestrator.runtime.cluster import connect

CPUS = 4
TIMEOUT_SECONDS = 120.0


def main() -> None:
    """Deploy both, wait."""
    path, run_uri, folder = sys.argv[1:]
    plan = load_plan(path).plan
    with connect("local", CPUS):
        from ray import serve

        from orchestrator.runtime.replica import Charge
        from orchestrator.runtime.serving import deploy

        axis = deploy(Charge(plan, run_uri, folder, str(Path.cwd()), 1), TIMEOUT_SECONDS)
        name = f"{plan.name}-by-hand"
        serve.run(application(plan, run_uri, folder), name=name, route_prefix=f"/{name}")
        print(json.dumps({"axis": axis, "by_hand": f"{axis}-by-hand"}), flush=True)
        sys.stdin.read()
        serve.shutdown()


if __name__ == "__main__":
    main()
