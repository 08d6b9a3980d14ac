"""How is the promoted checkpoint brought up, asked, and taken down again?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from ray import serve
from ray.serve.config import HTTPOptions

from orchestrator.errors import AxisError, DamagedCheckpointError, DeadlineExceeded
from orchestrator.observe.wording import counted
from orchestrator.plan.inference import Inference
from orchestrator.plan.plan import Plan
from orchestrator.plan.resources import Resources
from orchestrator.runtime import health
from orchestrator.runtime.bearer import bearer_headers
from orchestrator.runtime.internals.state import replicas_of
from orchestrator.runtime.replica import CHECKPOINT_HEADER, Charge, Replica

_POLL_SECONDS = 0.1


_ASKING_SECONDS = 10.0
"""How long Serve may take to ask for its replicas before their room is given back all the same."""
_CROWDED_SECONDS = 20.0
"""A replica that has no process so long after its room was given back was beaten to it: there are
seconds in between on busy cores, even where nobody was."""


class DeployError(AxisError):
    """The application did not come up; ``user_traceback`` is what its constructor raised.

    ``crowded_out``: somebody else took the room that was given back for its replicas.
    """

    def __init__(
        self, message: str, user_traceback: str = "", *, crowded_out: bool = False
    ) -> None:
        super().__init__(message)
        self.user_traceback = user_traceback
        self.crowded_out = crowded_out


@dataclass(frozen=True)
class Answer:
    """What the application answered to one request."""

    body: Any
    checkpoint: str
    seconds: float


def deploy(
    charge: Charge,
    timeout_seconds: float,
    give_room: Callable[[], None] | None = None,
) -> str:
    """Serve a checkpoint under ``/<name>`` and wait until it is ready; returns its URL.

    ``give_room`` gives back the room that is held for the replicas. Serve places them itself, so
    this is done when they already stand in line for it.

    Raises ``DeployError`` when replicas do not start, ``DeadlineExceeded`` when it takes too
    long. In both cases the application is taken down again.
    """
    plan = charge.plan
    inference = _inference(plan)
    deadline = time.monotonic() + timeout_seconds
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=inference.host, port=inference.port),
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    application = application_of(charge)
    target = serve.RunTarget(application, name=plan.name, route_prefix=f"/{plan.name}")
    beside = (
        [] if health.HEALTH_APP in serve.status().applications else [health.target(inference.token)]
    )
    # Waiting is ours, with a deadline; Serve's own has none.
    serve.run_many(
        [target, *beside],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )
    try:
        given_at = None
        if give_room is not None:
            _await_asking(plan.name, inference.replicas.min, deadline)
            give_room()
            given_at = time.monotonic()
        _await_running(plan.name, deadline, timeout_seconds, given_at)
        address = f"http://{inference.host}:{inference.port}"
        url, wanted = f"{address}/{plan.name}", bearer_headers(plan)
        _await_ready(f"{url}/healthz", deadline, timeout_seconds, wanted)
        _await_ready(f"{address}{health.ROUTE}", deadline, timeout_seconds, wanted)
    except BaseException:
        take_down(plan.name, 30.0)
        raise
    return url


def ask(
    url: str, request: Any, timeout_seconds: float, headers: Mapping[str, str] | None = None
) -> Answer:
    """POST one JSON request. Raises ``AxisError`` with the status and body of a refusal."""
    began = time.monotonic()
    try:
        response = httpx.post(f"{url}/", json=request, timeout=timeout_seconds, headers=headers)
    except httpx.HTTPError as error:
        raise AxisError(f"POST {url}/ was not answered: {type(error).__name__}: {error}") from error
    if response.status_code != 200:
        raise AxisError(f"POST {url}/ answered {response.status_code}: {response.text[:500]}")
    body = response.json()
    return Answer(body["answer"], response.headers[CHECKPOINT_HEADER], time.monotonic() - began)


def take_down(name: str, timeout_seconds: float, with_serve: bool = True) -> None:
    """Remove the application; shut Serve down when it was the last one and ``with_serve``.

    Where the cluster itself ends next, Serve need not be ended before.

    Raises ``DeadlineExceeded`` when it is still there at the end.
    """
    deadline = time.monotonic() + timeout_seconds
    if name in serve.status().applications:
        serve.delete(name)
    while name in serve.status().applications:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(f"{name} was still up {timeout_seconds:g} s after its removal")
        time.sleep(_POLL_SECONDS)
    if with_serve and set(serve.status().applications) <= {health.HEALTH_APP}:
        serve.shutdown()


def application_of(charge: Charge) -> Any:
    """The Serve application that answers with one checkpoint of a run."""
    return _deployment(_inference(charge.plan)).bind(charge)


def _deployment(inference: Inference) -> Any:
    replicas = inference.replicas
    resources = inference.resources
    scaling: dict[str, Any] = {"num_replicas": replicas.max}
    if replicas.elastic:
        scaling = {
            "autoscaling_config": {
                "min_replicas": replicas.min,
                "max_replicas": replicas.max,
                "target_ongoing_requests": max(1, inference.max_ongoing_requests // 2),
            }
        }
    return serve.deployment(
        Replica,
        name="model",
        max_ongoing_requests=inference.max_ongoing_requests,
        user_config={
            "max_batch_size": inference.max_batch_size,
            "batch_wait_timeout": inference.batch_wait_timeout,
        },
        ray_actor_options=_actor_options(resources),
        # How often a replica that is asked to go looks whether its requests are answered.
        graceful_shutdown_wait_loop_s=0.2,
        **scaling,
    )


def _actor_options(resources: Resources) -> dict[str, Any]:
    """What a replica occupies, in Serve's words; Serve refuses entries that are ``None``."""
    options: dict[str, Any] = {"num_cpus": resources.cpu, "num_gpus": resources.gpu}
    if resources.memory:
        options["memory"] = resources.memory
    if resources.custom:
        options["resources"] = dict(resources.custom)
    if resources.label_selector:
        options["label_selector"] = dict(resources.label_selector)
    return options


def _await_asking(name: str, num_replicas: int, deadline: float) -> None:
    """Return when as many replicas stand in line as will, or have their place already."""
    latest = min(deadline, time.monotonic() + _ASKING_SECONDS)
    while time.monotonic() < latest:
        if replicas_of(name).num_asked >= num_replicas:
            return
        time.sleep(_POLL_SECONDS)


def _check_room(name: str, given_at: float | None) -> None:
    """Raise ``DeployError`` where replicas still have no place some time after they got room."""
    if given_at is None or time.monotonic() - given_at < _CROWDED_SECONDS:
        return
    waiting = replicas_of(name).num_waiting
    if waiting:
        raise DeployError(
            f"{counted(waiting, 'replica')} of {name} found no place: somebody else took the room "
            "that was given back for them",
            crowded_out=True,
        )


def _await_running(
    name: str, deadline: float, timeout_seconds: float, given_at: float | None = None
) -> None:
    while True:
        _check_room(name, given_at)
        application = serve.status().applications.get(name)
        status = application.status.value if application else "NOT_STARTED"
        if status == "RUNNING":
            return
        if application is not None and status in {"DEPLOY_FAILED", "UNHEALTHY"}:
            details = [d.message for d in application.deployments.values() if d.message]
            text = "\n".join([application.message, *details]).strip()
            if "DamagedCheckpointError" in text:  # a replica's exception reaches us as text alone
                raise DamagedCheckpointError(_gist(text))
            raise DeployError(f"{name} could not be served: {_gist(text)}", user_traceback=text)
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"{name} was not up within {timeout_seconds:g} s (Serve says {status})"
            )
        time.sleep(_POLL_SECONDS)


def _await_ready(
    url: str, deadline: float, timeout_seconds: float, headers: Mapping[str, str] | None = None
) -> None:
    last = "no answer yet"
    while time.monotonic() < deadline:
        try:
            response = httpx.get(url, timeout=5.0, headers=headers)
            if response.status_code == 200:
                return
            last = f"status {response.status_code}"
        except httpx.HTTPError as error:
            last = f"{type(error).__name__}: {error}"
        time.sleep(_POLL_SECONDS)
    raise DeadlineExceeded(f"{url} was not ready within {timeout_seconds:g} s: {last}")


def _gist(text: str) -> str:
    """The last line that says what was raised."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if "Error" in line and not line.startswith("File")]
    return (raised or lines or ["no reason given"])[-1]


def _inference(plan: Plan) -> Inference:
    assert plan.inference is not None, "checked before anything is promoted"
    return plan.inference
