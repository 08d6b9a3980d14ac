"""``GET /healthz``: is every application on this cluster ready?

One small application of its own beside the models, without CPUs, so that a load balancer has
one address to ask whatever is being served. Each application answers ``/<name>/healthz`` for
itself as well.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestrator.runtime.bearer import Gate

HEALTH_APP = "axis-healthz"
ROUTE = "/healthz"


class Health:
    """Answers with the status of every application but itself: 200 when all run, else 503."""

    def __init__(self, token: str | None = None) -> None:
        self._gate = Gate(token)

    async def __call__(self, request: Request) -> JSONResponse:
        """Ask Serve, off the event loop."""
        refused = self._gate.refusal(request)
        if refused is not None:
            return refused
        statuses = await asyncio.to_thread(_statuses)
        ready = bool(statuses) and all(status == "RUNNING" for status in statuses.values())
        return JSONResponse(
            {"ready": ready, "applications": statuses}, status_code=200 if ready else 503
        )


def target(token: str | None = None) -> Any:
    """The application, to be run by Serve beside the others; ``token`` is the reference of the run
    that brings it up."""
    deployment = serve.deployment(Health, name="health", ray_actor_options={"num_cpus": 0})
    return serve.RunTarget(deployment.bind(token), name=HEALTH_APP, route_prefix=ROUTE)


def _statuses() -> dict[str, str]:
    return {
        name: application.status.value
        for name, application in serve.status().applications.items()
        if name != HEALTH_APP
    }
