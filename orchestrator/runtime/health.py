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

HEALTH_APP = "axis-healthz"
ROUTE = "/healthz"


class Health:
    """Answers with the status of every application but itself: 200 when all run, else 503."""

    async def __call__(self, _request: Request) -> JSONResponse:
        """Ask Serve, off the event loop."""
        statuses = await asyncio.to_thread(_statuses)
        ready = bool(statuses) and all(status == "RUNNING" for status in statuses.values())
        return JSONResponse(
            {"ready": ready, "applications": statuses}, status_code=200 if ready else 503
        )


def target() -> Any:
    """The application, to be run by Serve beside the others."""
    deployment = serve.deployment(Health, name="health", ray_actor_options={"num_cpus": 0})
    return serve.RunTarget(deployment.bind(), name=HEALTH_APP, route_prefix=ROUTE)


def _statuses() -> dict[str, str]:
    return {
        name: application.status.value
        for name, application in serve.status().applications.items()
        if name != HEALTH_APP
    }
