"""The Ray Serve deployment one would write by hand around a Job's model: JSON in, JSON out."""

from __future__ import annotations

from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


class Model:
    """Answers requests in batches."""

    def __init__(self, plan: Any, run_uri: str, folder: str) -> None:
        import torch

        from orchestrator.job_import import load_job
        from orchestrator.parallel.checkpoint import load_model
        from orchestrator.storage import Storage

        torch.set_num_threads(1)
        self.job = load_job(plan)
        self.model, _ = load_model(self.job, Storage.open(run_uri).child(folder), "cpu")

    def reconfigure(self, config: dict[str, Any]) -> None:
        """The batching, the same as that of the plan."""
        self.answer.set_max_batch_size(config["max_batch_size"])
        self.answer.set_batch_wait_timeout_s(config["batch_wait_timeout"])

    @serve.batch
    async def answer(self, requests: list[Any]) -> list[Any]:
        """One batch through the model."""
        import torch

        with torch.inference_mode():
            return list(self.job.answer(self.model, requests))

    async def __call__(self, request: Request) -> JSONResponse:
        """One request."""
        return JSONResponse(await self.answer(await request.json()))


def application(plan: Any, run_uri: str, folder: str) -> Any:
    """The application, with as many replicas, CPUs and batching as the plan's."""
    inference = plan.inference
    deployment = serve.deployment(
        Model,
        num_replicas=inference.replicas.max,
        max_ongoing_requests=inference.max_ongoing_requests,
        ray_actor_options={"num_cpus": inference.resources.cpu},
        user_config={
            "max_batch_size": inference.max_batch_size,
            "batch_wait_timeout": inference.batch_wait_timeout,
        },
    )
    return deployment.bind(plan, run_uri, folder)
