"""What do the nodes themselves say, asked all at once by running something on each of them?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray

from orchestrator.plan.selectors import NODE_ID

_Told = TypeVar("_Told")


@dataclass(frozen=True)
class Answer(Generic[_Told]):
    """What one node said: ``told``, or the ``error`` in its place."""

    node: str
    place: str
    """Its address, for people."""
    told: _Told | None = None
    error: str = ""
    seconds: float = 0.0


def ask_nodes(
    nodes: Sequence[str], question: Callable[..., _Told], *arguments: Any, timeout_seconds: float
) -> list[Answer[_Told]]:
    """Run ``question`` once on every node, beside whatever runs there; returns within
    ``timeout_seconds``."""
    places = {str(each["NodeID"]): str(each["NodeManagerAddress"]) for each in ray.nodes()}
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    began = time.monotonic()
    asked = {
        task.options(label_selector={NODE_ID: node}).remote(*arguments): node for node in nodes
    }
    found: dict[str, Answer[_Told]] = {}
    left = list(asked)
    while left:
        patience = max(0.0, timeout_seconds - (time.monotonic() - began))
        ready, left = ray.wait(left, num_returns=1, timeout=patience)
        if not ready:
            break
        node = asked[ready[0]]
        found[node] = _answer(node, places.get(node, node), ready[0], time.monotonic() - began)
    for reference in left:
        node = asked[reference]
        why = f"did not answer within {timeout_seconds:g} s"
        found[node] = Answer(node, places.get(node, node), error=why, seconds=timeout_seconds)
        with suppress(ray.exceptions.RayError, ValueError):
            ray.cancel(reference, force=True)
    return [found[node] for node in nodes]


def _answer(node: str, place: str, reference: Any, seconds: float) -> Answer[Any]:
    try:
        return Answer(node, place, told=ray.get(reference, timeout=5.0), seconds=seconds)
    except ray.exceptions.RayTaskError as error:
        text = f"{type(error.cause).__name__}: {error.cause}" if error.cause else str(error)
        return Answer(node, place, error=text.strip().splitlines()[-1], seconds=seconds)
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0]
        return Answer(node, place, error=f"{type(error).__name__}: {first}", seconds=seconds)
