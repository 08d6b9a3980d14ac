"""Is a node there? Asked by running something on it, for Ray itself takes a minute to notice."""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import suppress

import ray

from orchestrator.plan.selectors import NODE_ID

_CONNECT_SECONDS = 1.0


def is_there(node: str) -> bool:
    """Whether the node's own daemon takes connections: a lost one refuses them, or is not reached,
    long before Ray counts it as dead. ``False`` for a node that Ray does not know."""
    known = next((each for each in ray.nodes() if each["NodeID"] == node), None)
    if known is None or not known["Alive"]:
        return False
    try:
        place = (str(known["NodeManagerAddress"]), int(known["NodeManagerPort"]))
        socket.create_connection(place, _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


class Probes:
    """Asks nodes, at most once at a time each, and remembers when they last answered."""

    def __init__(self) -> None:
        self._answered_at: dict[str, float] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()

    def since_answer(self, node: str, now: float) -> float:
        """How long ago the node answered; infinite where it never did, or was never asked."""
        with self._lock:
            return now - self._answered_at.get(node, -math.inf)

    def ask(self, node: str, timeout_seconds: float) -> None:
        """Ask it, unless that is being done; returns at once."""
        with self._lock:
            if node in self._asking:
                return
            self._asking.add(node)
        threading.Thread(target=self._ask, args=(node, timeout_seconds), daemon=True).start()

    def _ask(self, node: str, timeout_seconds: float) -> None:
        answer = None
        try:
            task = ray.remote(num_cpus=0, max_retries=0)(_here)
            answer = task.options(label_selector={NODE_ID: node}).remote()
            ray.get(answer, timeout=timeout_seconds)
            with self._lock:
                self._answered_at[node] = time.monotonic()
        except ray.exceptions.RayError:
            if answer is not None:
                with suppress(ray.exceptions.RayError, ValueError):
                    ray.cancel(answer, force=True)
        finally:
            with self._lock:
                self._asking.discard(node)


def _here() -> bool:
    return True
