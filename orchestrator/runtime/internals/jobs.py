"""Ray's own client of its Jobs API, with deadlines: its requests have none.

``requests`` waits for ever for a head that has stopped in the middle of an answer.
"""

from __future__ import annotations

from typing import Any

from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE
from ray.job_submission import JobSubmissionClient

PACKAGE_LIMIT_BYTES: int = min(GCS_STORAGE_MAX_SIZE, DASHBOARD_CLIENT_MAX_SIZE)
"""A package must be smaller than this: what the control store keeps, and what the dashboard takes
in one request."""

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 60.0


class JobsClient(JobSubmissionClient):  # type: ignore[misc]
    """``JobSubmissionClient`` whose requests end."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        options.setdefault("timeout", (CONNECT_SECONDS, ANSWER_SECONDS))
        return super()._do_request(method, endpoint, **options)
