"""How does a driver or a worker reach the coordinator, through its restarts?

Every call has a deadline. A call whose actor died under it is made again: events are
idempotent, and what a lost reply asked for is asked for again with ``due``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayTaskError

from orchestrator.coordinator.actions import ReserveGang
from orchestrator.coordinator.events import Event, Opened
from orchestrator.errors import AxisError, DeadlineExceeded
from orchestrator.plan.plan import Plan
from orchestrator.runtime.cluster import NAMESPACE
from orchestrator.runtime.coordinator import COORDINATOR, Coordinator
from orchestrator.runtime.internals.state import HEAD_NODE_RESOURCE
from orchestrator.runtime.messages import Pulse, Reply, RunRef

CALL_TIMEOUT_SECONDS = 60.0
_PLACING = "placing"


def start_coordinator() -> Any:
    """The cluster's coordinator, started if there is none; on the head node, detached.

    Raises ``DeadlineExceeded`` when it does not come up within a minute.
    """
    on_head = HEAD_NODE_RESOURCE in ray.cluster_resources()
    # Runs that wait for their gang must not keep workers from being heard.
    actor_class = ray.remote(concurrency_groups={_PLACING: 64})(Coordinator).options(
        name=COORDINATOR,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        resources={HEAD_NODE_RESOURCE: 0.001} if on_head else None,
        max_restarts=-1,
        max_concurrency=32,
    )
    deadline = time.monotonic() + CALL_TIMEOUT_SECONDS
    while True:
        actor = actor_class.remote()
        try:
            ray.get(actor.ping.remote(), timeout=max(1.0, deadline - time.monotonic()))
            return actor
        except RayActorError:
            # The one before was just being taken down; a new one gets the name.
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)
        except GetTimeoutError as error:
            raise DeadlineExceeded(
                f"the coordinator did not start within {CALL_TIMEOUT_SECONDS:g} s"
            ) from error


class CoordinatorHandle:
    """The coordinator as one run sees it."""

    def __init__(self, actor: Any, ref: RunRef, revive: Callable[[], Any] | None = None) -> None:
        self.actor = actor
        self.ref = ref
        self._revive = revive
        """Finds the coordinator, or starts one, where this one was taken down by the last of the
        runs before it."""

    def open(self, event: Opened, plan: Plan) -> Reply:
        """Begin a new attempt."""
        reply: Reply = self._call("open", event, plan)
        return reply

    def tell(self, event: Event) -> Reply:
        """Send an event; a reply lost to a restart of the actor is made up for."""
        try:
            reply: Reply = ray.get(
                self.actor.tell.remote(self.ref, event), timeout=CALL_TIMEOUT_SECONDS
            )
        except RayActorError:
            reply = self._call("tell", event)
            if reply.verdict != "accepted":
                return Reply(reply.state, self._call("due"), reply.verdict, reply.note)
        except RayTaskError as error:
            raise _own(error) from error
        return reply

    def pulse(self) -> Pulse:
        """Where the run stands; also the driver's sign of life."""
        pulse: Pulse = self._call("pulse")
        return pulse

    def reserve(self, plan: Plan, action: ReserveGang) -> Reply:
        """Place the gang; waits as long as the action allows."""
        reply: Reply = self._call(
            "reserve", plan, action, timeout_seconds=action.timeout_seconds + CALL_TIMEOUT_SECONDS
        )
        return reply

    def call(self, method: str, *arguments: Any) -> Any:
        """Any other method of the coordinator, for this run."""
        return self._call(method, *arguments)

    def retire(self) -> None:
        """Forget this run; the last one to leave takes the coordinator down."""
        if self._call("close"):
            ray.kill(self.actor, no_restart=True)

    def _call(
        self, method: str, *arguments: Any, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> Any:
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = max(0.1, deadline - time.monotonic())
            try:
                call = getattr(self.actor, method)
                if method == "reserve":
                    call = call.options(concurrency_group=_PLACING)
                reference = call.remote(self.ref, *arguments)
                return ray.get(reference, timeout=left)
            except RayTaskError as error:
                raise _own(error) from error
            except GetTimeoutError as error:
                raise DeadlineExceeded(
                    f"the coordinator did not answer {method} within {timeout_seconds:g} s"
                ) from error
            except RayActorError as error:
                if time.monotonic() >= deadline:
                    raise
                if self._revive is not None and isinstance(error, ActorDiedError):
                    self.actor = self._revive()
                time.sleep(0.2)


def _own(error: RayTaskError) -> BaseException:
    """Our own exception out of Ray's wrapping, or the wrapping itself."""
    cause = error.cause
    return cause if isinstance(cause, AxisError) else error
