"""How does a cluster's autoscaler hear of the workers that an elastic run could still use?

Bundles are pinned to nodes that are there, so no task ever waits for a node that is not: an
autoscaler would see no demand. It is told instead what the largest gang would take, for as long as
the run lasts; nodes that it starts are grown onto (``coordination.regrow_after``). A cluster
without an autoscaler keeps the wish and does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from orchestrator.coordinator.gang import gang
from orchestrator.plan.plan import Plan
from orchestrator.plan.sizes import legal_workers

_logger = logging.getLogger(__name__)


@contextmanager
def room_asked_for(plan: Plan, private: bool) -> Iterator[None]:
    """Ask for the room of the largest gang of an elastic plan inside the block.

    The wish is the cluster's one wish: of several runs the last that asked is heard.
    """
    counts = legal_workers(plan)
    if private or len(counts) < 2:
        yield
        return
    wanted = gang(plan, counts[-1], apart=True)
    selectors = wanted.selectors or ({},) * len(wanted.bundles)
    _ask([dict(bundle) for bundle in wanted.bundles], [dict(each) for each in selectors])
    try:
        yield
    finally:
        _ask([], [])


def _ask(bundles: list[dict[str, float]], selectors: list[dict[str, str]]) -> None:
    try:
        request_resources(bundles=bundles, bundle_label_selectors=selectors)
    except (RayError, RuntimeError) as error:
        # A run does without more nodes; it must not end for want of them.
        _logger.warning("the autoscaler could not be asked for nodes: %s", error)
