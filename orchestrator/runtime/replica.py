"""What runs inside a replica: the promoted model, answering HTTP requests in batches.

With ``inference.token`` every request must carry it as ``Authorization: Bearer …``.
``POST /<name>/…`` takes one JSON request and answers
``{"checkpoint": …, "step": …, "answer": …}``; ``GET /<name>/healthz`` says ready. Every
response names the checkpoint that produced it in the header ``x-axis-checkpoint``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestrator.job_import import add_working_directory, concealer_of, load_job
from orchestrator.plan.plan import Plan
from orchestrator.runtime.bearer import Gate
from orchestrator.runtime.labelled import Whose, labelled
from orchestrator.storage import Storage

CHECKPOINT_HEADER = "x-axis-checkpoint"


@dataclass(frozen=True)
class Charge:
    """What a replica serves, and which attempt brought it up; picklable."""

    plan: Plan
    run_uri: str
    folder: str
    working_directory: str
    attempt: int


@dataclass(frozen=True)
class _Outcome:
    """One request's answer, or the reason why there is none, with an HTTP status."""

    status: int
    body: Any


_SHORT_SECONDS = 0.2
"""A batch expected to take less is computed on the event loop; see ``Replica``."""
_SMOOTHING = 0.3


class Replica:
    """Holds the model and answers requests, one batch at a time.

    Short batches are computed on the event loop itself: meanwhile requests pile up, so that the
    next batch is full, and no second thread contends for the interpreter (measured with the GPT
    job at 32 requests at once: twice the throughput of a thread). Longer batches go to a thread,
    so that health checks are answered, and requests wait at a gate until it is done.
    """

    def __init__(self, charge: Charge) -> None:
        import torch

        from orchestrator.parallel.checkpoint import load_model

        if Path(charge.working_directory).is_dir():
            add_working_directory(charge.working_directory)
        plan = charge.plan
        self._output = _labelled(charge)
        self._conceal = concealer_of(plan)
        self._gate = Gate(plan.inference.token if plan.inference else None)
        torch.set_num_threads(max(1, int(plan.inference.resources.cpu if plan.inference else 1)))
        self._name = plan.name
        self._job = load_job(plan)
        device = "cuda" if plan.inference and plan.inference.resources.gpu else "cpu"
        checkpoint = Storage.open(charge.run_uri).child(charge.folder)
        self._model, manifest = load_model(self._job, checkpoint, device)
        self._checkpoint = charge.folder.rpartition("/")[2]
        self._step = manifest.step
        self._batch_seconds = math.inf  # nothing is known before the first batch
        self._free = asyncio.Event()
        self._free.set()

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take the batching of the plan; called by Serve with the deployment's user config."""
        self._answer_batch.set_max_batch_size(config["max_batch_size"])
        self._answer_batch.set_batch_wait_timeout_s(config["batch_wait_timeout"])

    async def __call__(self, request: Request) -> JSONResponse:
        """Route one HTTP request."""
        refused = self._gate.refusal(request)
        if refused is not None:
            return refused
        if request.method == "GET" and request.url.path.rstrip("/").endswith("/healthz"):
            return self._respond(200, {"ready": True, "name": self._name})
        if request.method != "POST":
            return self._respond(405, {"error": f"POST a JSON request to /{self._name}/"})
        try:
            body = json.loads(await request.body())
        except ValueError as error:
            return self._respond(400, {"error": f"the body is not JSON: {error}"})
        await self._free.wait()
        outcome: _Outcome = await self._answer_batch(body)
        return self._respond(outcome.status, outcome.body)

    @serve.batch  # type: ignore[untyped-decorator]
    async def _answer_batch(self, bodies: list[Any]) -> list[_Outcome]:
        began = time.perf_counter()
        if self._batch_seconds < _SHORT_SECONDS:
            outcomes = self._outcomes(bodies)
        else:
            self._free.clear()
            try:
                outcomes = await asyncio.to_thread(self._outcomes, bodies)
            finally:
                self._free.set()
        self._batch_seconds = smoothed(self._batch_seconds, time.perf_counter() - began)
        return outcomes

    def _outcomes(self, bodies: list[Any]) -> list[_Outcome]:
        """Answer a batch; when it is refused, answer its members one by one.

        One request that makes no sense must not cost the others their answer.
        """
        try:
            return [_Outcome(200, {"answer": answer}) for answer in self._answers(bodies)]
        except Exception as error:
            if len(bodies) > 1:
                return [self._outcomes([body])[0] for body in bodies]
            if isinstance(error, ValueError):
                return [_Outcome(400, {"error": self._conceal(str(error))})]
            traceback.print_exc()
            said = self._conceal(f"{type(error).__name__}: {error}")
            return [_Outcome(500, {"error": said})]

    def _answers(self, bodies: Sequence[Any]) -> Sequence[Any]:
        import torch

        with torch.inference_mode():
            answers = self._job.answer(self._model, bodies)
        if len(answers) != len(bodies):
            raise RuntimeError(
                f"answer() returned {len(answers)} answers to {len(bodies)} requests"
            )
        return answers

    def _respond(self, status: int, body: dict[str, Any]) -> JSONResponse:
        named = {"checkpoint": self._checkpoint, "step": self._step, **body}
        return JSONResponse(named, status, headers={CHECKPOINT_HEADER: self._checkpoint})


def _labelled(charge: Charge) -> contextlib.ExitStack:
    """What this process says is concealed, and says whose it is, until the stack is closed."""
    rank = serve.get_replica_context().rank.rank
    whose = Whose(charge.plan.name, charge.attempt, "inference", rank)
    stack = contextlib.ExitStack()
    stack.enter_context(labelled(whose, concealer_of(charge.plan)))
    return stack


def smoothed(before_seconds: float, now_seconds: float) -> float:
    """The expected duration of a batch: an exponential average, begun by the first one."""
    if math.isinf(before_seconds):
        return now_seconds
    return (1 - _SMOOTHING) * before_seconds + _SMOOTHING * now_seconds
