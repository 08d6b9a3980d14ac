"""``python -m benchmarks.raylets CPUS [CPUS…]``: a head and further nodes, until stdin ends."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Start them, print ``{"address": …, "raylets": [pid, …]}`` with the head's first, wait."""
    from ray.cluster_utils import Cluster

    head, *others = map(int, sys.argv[1:])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head})
    for cpus in others:
        cluster.add_node(num_cpus=cpus)
    cluster.wait_for_nodes(60)
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
