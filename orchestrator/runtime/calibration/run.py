"""How does one ``axis calibrate`` go, from a cluster to its timings?"""

from __future__ import annotations

from pathlib import Path

from orchestrator.planner.calibration.timings import Timings
from orchestrator.runtime.calibration.shell import Say, measure_cluster
from orchestrator.runtime.cluster import connect
from orchestrator.storage import Storage


def calibrate(storage: str, address: str | None, num_cpus: int | None, say: Say) -> Timings:
    """Connect, or start a private cluster, and time everything on it.

    ``storage`` is where runs will lie. Raises ``AxisError`` for what cannot be measured.
    """
    base = Storage.open(storage, Path.cwd())
    base.check_writable()
    say("starting Ray …" if address in (None, "local") else f"connecting to {address} …")
    with connect(address, num_cpus):
        return measure_cluster(base.uri, say)
