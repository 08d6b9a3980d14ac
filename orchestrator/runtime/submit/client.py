"""What is asked of a Jobs API, in our words and with our errors. Imports Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import requests
from ray.exceptions import AuthenticationError

from orchestrator.coordinator.node import Node
from orchestrator.errors import DeadlineExceeded, InfeasibleError
from orchestrator.runtime.internals.jobs import JobsClient
from orchestrator.runtime.submit.reach import CONNECT_SECONDS, Api
from orchestrator.runtime.submit.submission import Job, job_of

_NODES_SECONDS = 10.0
_MOST_NODES = 10_000
_Answer = TypeVar("_Answer")


class Jobs:
    """The jobs of one cluster. Every request has a deadline; what fails is an ``AxisError``."""

    def __init__(self, api: Api) -> None:
        self.api = api
        # Ray's client asks the environment first, whatever it is told; the address is decided.
        os.environ["RAY_API_SERVER_ADDRESS"] = api.url
        for name in ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk"):
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
        self._client = self._asked(lambda: JobsClient(api.url, headers=dict(api.headers)))

    def all(self) -> list[Job]:
        """Every submission that the cluster knows."""
        found = self._asked(self._client.list_jobs)
        return [job for job in map(job_of, found) if job is not None]

    def one(self, submission_id: str) -> Job:
        """One submission."""
        job = job_of(self._asked(lambda: self._client.get_job_info(submission_id)))
        assert job is not None, "asked for by its submission id"
        return job

    def submit(
        self,
        submission_id: str,
        entrypoint: str,
        package: Path | None,
        metadata: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        """Upload the package where it is not there yet, and start the job."""
        wanted: dict[str, Any] = {"env_vars": dict(environment)}
        if package is not None:
            wanted["working_dir"] = str(package)
        self._asked(
            lambda: self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=submission_id,
                runtime_env=wanted,
                metadata=dict(metadata),
            )
        )

    def stop(self, submission_id: str) -> None:
        """Ask a job to end; returns at once."""
        self._asked(lambda: self._client.stop_job(submission_id))

    def delete(self, submission_id: str) -> None:
        """Forget a job that is over."""
        self._asked(lambda: self._client.delete_job(submission_id))

    def logs(self, submission_id: str) -> str:
        """All that a job's driver has printed."""
        return str(self._asked(lambda: self._client.get_job_logs(submission_id)))

    def tail(self, submission_id: str) -> AsyncIterator[str]:
        """What it prints, from its beginning until it ends or the connection does."""
        found: AsyncIterator[str] = self._client.tail_job_logs(submission_id)
        return found

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are alive, with all they offer in total."""
        try:
            answer = httpx.get(
                f"{self.api.url}/api/v0/nodes",
                params={"detail": "1", "limit": _MOST_NODES},
                headers=self.api.headers,
                timeout=httpx.Timeout(_NODES_SECONDS, connect=CONNECT_SECONDS),
            )
            rows = answer.raise_for_status().json()["data"]["result"]["result"]
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            raise InfeasibleError(
                f"the cluster at {self.api.url} does not say which nodes it has: {error}"
            ) from error
        return tuple(_node(row) for row in rows if row.get("state") == "ALIVE")

    def _asked(self, ask: Callable[[], _Answer]) -> _Answer:
        try:
            return ask()
        except requests.exceptions.Timeout as error:
            raise DeadlineExceeded(
                f"the cluster at {self.api.url} did not answer in time: {error}"
            ) from error
        except (requests.exceptions.RequestException, ConnectionError) as error:
            raise InfeasibleError(
                f"the cluster at {self.api.url} does not answer any more: {error}"
            ) from error
        except AuthenticationError as error:
            raise InfeasibleError(
                f"the cluster at {self.api.url} does not let you in any more: {_first(error)}"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise InfeasibleError(
                f"the cluster at {self.api.url} refused: {_gist(error)}"
            ) from error


def _node(row: Mapping[str, Any]) -> Node:
    resources = {
        str(name): float(count)
        for name, count in (row.get("resources_total") or {}).items()
        if not str(name).startswith(("node:", "object_store_memory"))
    }
    labels = {str(key): str(value) for key, value in (row.get("labels") or {}).items()}
    return Node(str(row["node_id"]), resources, labels)


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _gist(error: BaseException) -> str:
    """Ray answers with the server's traceback: its last line says what was wrong."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].removesuffix(".") if lines else type(error).__name__
