"""``python -m benchmarks.cluster NUM_CPUS``: a Ray cluster that is up until its stdin ends."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Start it, print ``{"address": …}``, wait."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=int(sys.argv[1]),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    print(json.dumps({"address": context.address_info["gcs_address"]}), flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
