"""A Ray cluster of several raylets on this machine, whose nodes can be lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil


class Raylets:
    """The head and the nodes beside it; ``address`` is what ``axis run --address`` takes."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address

    def add(self, **options: Any) -> Any:
        """One more node, alive when this returns."""
        node = self._cluster.add_node(**options)
        self._cluster.wait_for_nodes(30)
        return node

    def kill(self, node: Any) -> list[int]:
        """The node is gone at once, as at a power cut; returns the processes that went with it."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        victims = [*raylet.children(recursive=True), raylet]
        for process in victims:
            os.kill(process.pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)
        return [process.pid for process in victims]

    @contextmanager
    def without_control_store(self) -> Iterator[None]:
        """The process that knows nodes, actors and placement groups is killed, and started again
        afterwards; the raylets live on."""
        head = self._cluster.head_node
        head.kill_gcs_server()
        try:
            yield
        finally:
            head.start_gcs_server()

    @contextmanager
    def joined(self) -> Iterator[Any]:
        """This process as somebody else's driver on the cluster: ``ray``, connected to it."""
        import ray

        ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield ray
        finally:
            ray.shutdown()

    def lose_head(self) -> None:
        """The head is gone at once, with all it knew and all that ran on it."""
        self._cluster.head_node.kill_gcs_server()
        self.kill(self._cluster.head_node)


@contextmanager
def raylets(**head: Any) -> Iterator[Raylets]:
    """A cluster of its head alone, and no process of it afterwards."""
    from orchestrator.runtime.cluster import prepare

    prepare()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield Raylets(cluster)
    finally:
        cluster.shutdown()
