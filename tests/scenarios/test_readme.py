"""The README's example is complete: copied into an empty folder, it runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.axis_command import ROOT, Axis

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def _blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_example_job_trains_and_answers(axis: Axis, tmp_path: Path, free_port: int) -> None:
    project = tmp_path / "project"
    project.mkdir()
    job, plan = _blocks("python")[0], _blocks("yaml")[0]
    assert len(job.splitlines()) <= 45
    (project / "wine.py").write_text(job)
    (project / "wine.yaml").write_text(plan)
    axis.cwd = project
    port = f"inference.port={free_port}"
    done = axis("run", "wine.yaml", f"storage={axis.storage}", port)
    assert done.code == 0, done
    assert axis.events("wine", "example-answered")[0]["answer"] == {"cultivar": 0}
