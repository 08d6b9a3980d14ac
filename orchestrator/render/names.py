"""What are the objects of a plan called, and how do their pods find one another?

Names and labels alone; the limits are Kubernetes' and KubeRay's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.errors import Problem

LIMITS = {"RayCluster": 53, "RayJob": 47, "RayService": 47}
"""Characters that KubeRay leaves for a name: it appends some for what it creates."""

PLAN_PATH = "/etc/axis/plan.yaml"
WORK_DIRECTORY = "/opt/axis/app"
"""Where the image keeps the Job's code, and where every process starts."""
VOLUME_PATH = "/mnt/axis"
"""Where the volume is mounted, if ``storage`` is a folder."""

GCS_PORT = 6379
DASHBOARD_PORT = 8265
SERVE_PORT = 8000
METRICS_PORT = 8080
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Names:
    """The names of all that is rendered for one plan."""

    run: str
    """The run's name, and the main object's."""
    kind: str = "job"
    """job, service or cluster; one plan may be rendered as each, side by side."""

    @property
    def instance(self) -> str:
        """What tells the pods of this rendering from those of another one."""
        return self.run if self.kind == "job" else f"{self.run}-{self.kind}"

    @property
    def plan(self) -> str:
        """The ConfigMap with the plan."""
        return f"{self.run}-plan"

    @property
    def claim(self) -> str:
        """The PersistentVolumeClaim with the runs."""
        return f"{self.run}-runs"

    @property
    def redis(self) -> str:
        """The Redis that keeps the head's state."""
        return f"{self.instance}-redis"

    @property
    def secrets(self) -> str:
        """The Secret with what the plan names as ``${env:NAME}``."""
        return f"{self.run}-secrets"

    @property
    def shared(self) -> dict[str, str]:
        """Labels of what all renderings of a plan have in common: its volume, its plan."""
        return {"app.kubernetes.io/part-of": "axis", "axis.run": self.run}

    def labels(self, component: str = "") -> dict[str, str]:
        """Kubernetes' recommended labels; all pods of one rendering share ``instance``."""
        found = {**self.shared, "app.kubernetes.io/instance": self.instance}
        return {**found, "app.kubernetes.io/component": component} if component else found


def name_problems(name: str, kind: str, where: str = "name") -> list[Problem]:
    """Why an object of ``kind`` cannot have this name."""
    limit, found = LIMITS[kind], []
    if len(name) > limit:
        found.append(
            Problem(
                where,
                f"{name} is too long for a {kind}",
                f"{len(name)} characters; KubeRay takes at most {limit}",
                name[:limit].rstrip("-"),
            )
        )
    if not _DNS_1035.fullmatch(name):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        works = slug if slug[:1].isalpha() else f"run-{slug}"
        what = f"{name} is no name in Kubernetes (DNS-1035): lower-case letters, digits and dashes"
        found.append(Problem(where, what, works=works[:limit].rstrip("-")))
    return found
