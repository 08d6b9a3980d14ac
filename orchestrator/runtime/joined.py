"""Have so many nodes joined a cluster? Waited for before a plan is run on one that just starts.

``python -m orchestrator.runtime.joined 3 --address 10.0.0.1:6379 --timeout 120`` prints how many
there are, and ends with 0 as soon as there are three, or with 1 when the time is up.
"""

from __future__ import annotations

import argparse
import sys
import time

from orchestrator.errors import AxisError
from orchestrator.runtime.cluster import connect, live_nodes

_POLL_SECONDS = 0.5


def await_nodes(number: int, address: str, timeout_seconds: float) -> int:
    """How many nodes there are, once there are ``number`` of them or the time is up."""
    deadline = time.monotonic() + timeout_seconds
    with connect(address, None):
        found = len(live_nodes())
        while found < number and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            found = len(live_nodes())
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="joined", description=__doc__)
    parser.add_argument("number", type=int, help="nodes to wait for, the head among them")
    parser.add_argument("--address", required=True, help="host:port of the GCS")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds")
    options = parser.parse_args(arguments)
    try:
        found = await_nodes(options.number, options.address, options.timeout)
    except AxisError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{found}\n")
    return 0 if found >= options.number else 1


if __name__ == "__main__":
    sys.exit(main())
